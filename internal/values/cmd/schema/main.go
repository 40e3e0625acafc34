// Command schema writes the chart's values.schema.json.
package main

import (
	"fmt"
	"os"

	"github.com/weft-cni/weft/internal/values"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments; expected the file to write", len(args))
	}
	catalogue, err := values.Load()
	if err != nil {
		return err
	}
	b, err := catalogue.Schema()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], b, 0o644)
}
