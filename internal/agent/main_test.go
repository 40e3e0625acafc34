package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

func TestMain(m *testing.M) {
	code := nstest.Main(m)
	if built.path != "" {
		if err := os.RemoveAll(filepath.Dir(built.path)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}
