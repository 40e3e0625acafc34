// Command genmatrix writes the table of who reaches whom by which hooks.
package main

import (
	"fmt"
	"os"

	"github.com/weft-cni/weft/internal/datapath/matrix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genmatrix OUTPUT")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(matrix.Markdown(matrix.Cells())), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "genmatrix:", err)
		os.Exit(1)
	}
}
