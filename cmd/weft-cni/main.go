// Command weft-cni is the CNI plugin that the container runtime executes. It hands the command to the
// node's agent and prints the answer.
package main

import (
	"fmt"
	"os"

	"github.com/weft-cni/weft/internal/cni"
)

func main() {
	if err := cni.NewShim().Main("weft-cni: the CNI plugin of weft"); err != nil {
		if perr := err.Print(); perr != nil {
			fmt.Fprintln(os.Stderr, perr)
		}
		os.Exit(1)
	}
}
