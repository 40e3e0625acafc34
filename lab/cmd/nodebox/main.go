// Command nodebox is what runs inside a lab's node beside Kubernetes: its pid 1, and the wrapper around
// runc when it is called runc-lab. It is small because runc is started for every step of every container.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/weft-cni/weft/lab/internal/node/boot"
	"github.com/weft-cni/weft/lab/internal/node/runc"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "runc-lab":
		err = runc.Main(os.Args)
	case len(os.Args) == 3:
		err = boot.Main(os.Args[1], os.Args[2])
	default:
		err = fmt.Errorf("nodebox: expected enter SPEC or boot SPEC; the lab calls it, people don't")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
