// Package loadbalancer says which frontends the services of a cluster have and which backends each of them may
// choose on a node: a pure reading of Services and EndpointSlices, and a table that keeps up with their changes.
package loadbalancer
