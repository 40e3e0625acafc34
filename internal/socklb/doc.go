// Package socklb connects sockets to services: programs at the node's root control group, and the maps of frontends
// and backends that they choose from.
package socklb
