// Package agent is the life of weft's process on a node: it learns what the node was given, makes the
// kernel carry it, serves the CNI plugin and reports back. agent.go reads from top to bottom as that life.
package agent
