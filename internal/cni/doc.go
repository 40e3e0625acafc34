// Package cni is the CNI plugin: the shim that the runtime executes, the protocol by which it hands each
// command to the agent, the agent's end of that, and the queue of DELs that came while the agent was away.
package cni
