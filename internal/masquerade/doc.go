// Package masquerade decides which destinations endpoints reach by their own address, and which source
// ports translation may give.
package masquerade
