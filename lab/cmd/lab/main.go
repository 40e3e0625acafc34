// Command lab is EKS in a box: a real Kubernetes cluster in an emulated VPC, on one machine.
package main

import (
	"os"

	"github.com/weft-cni/weft/lab/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
