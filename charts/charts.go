// Package charts holds the Helm chart that the command line installs.
package charts

import (
	"embed"
	"io/fs"
)

//go:embed all:weft
var files embed.FS

// Weft is the chart's directory.
func Weft() (fs.FS, error) { return fs.Sub(files, "weft") }
