// Package version says which weft a binary is.
package version

import (
	"fmt"
	"runtime"
)

// Set by the linker: -X github.com/weft-cni/weft/internal/version.Commit=….
var (
	Version = "v0.1.0"
	Commit  = ""
)

// String is the version on one line, for a person.
func String() string {
	commit := Commit
	if commit == "" {
		commit = "unknown commit"
	}
	return fmt.Sprintf("%s (%s, %s, %s/%s)", Version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
