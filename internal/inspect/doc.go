// Package inspect is what an agent tells of its datapath, and how it is shown: maps and their entries,
// programs, rules and routes, and what differs from what is wanted. Nothing here asks a kernel.
package inspect
