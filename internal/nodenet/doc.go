// Package nodenet makes the node's kernel carry its endpoints: ENIs found by MAC and brought up, a routing
// table for each, rules and routes for each endpoint, the pods' pairs of devices, kernel settings, and
// the translation of what leaves the VPC. What something else removes is put back.
package nodenet
