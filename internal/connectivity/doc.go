// Package connectivity proves that a cluster's network works, by sending real traffic on every path that
// matters and saying, where it fails, what was seen and what likely causes it.
//
// A Test is a named group of Scenarios; a Scenario is one kind of traffic, in one file, and runs Actions: one
// probe from one place to another. registry.go lists them. What runs in the cluster is cmd/weft-probe.
package connectivity
