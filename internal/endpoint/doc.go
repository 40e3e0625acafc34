// Package endpoint owns the node's endpoints: which pod's interface has which address and slot, kept in a
// journal that is written before the kernel is touched, so that an agent killed at any instant finds what
// it began.
package endpoint
