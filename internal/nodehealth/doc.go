// Package nodehealth is how agents see each other: every agent answers on a port of its node's address, and
// probes the others' by ICMP and TCP, all of them in a small cluster, some in turn in a large one.
package nodehealth
