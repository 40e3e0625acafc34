package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-cni/weft/lab/internal/labstate"
)

// workstation fills what `lab env` puts into PATH.
func (c *Cluster) workstation() error {
	for _, name := range []string{"kubectl", "helm"} {
		err := os.Symlink(filepath.Join(c.opts.Assets, name), filepath.Join(c.lab.BinDir(), name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("lab %s: %w", c.lab.Name, err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("lab %s: %w", c.lab.Name, err)
	}
	return labstate.WriteFile(filepath.Join(c.lab.BinDir(), "aws"), awsWrapper(exe, c.lab.Name), 0o755)
}

// awsWrapper runs the distribution's aws where AWS' names lead to the lab: an old one knows no variable that
// names another endpoint.
func awsWrapper(exe, lab string) []byte {
	quoted := "'" + strings.ReplaceAll(exe, "'", `'\''`) + "'"
	return fmt.Appendf(nil, `#!/bin/sh
aws=/usr/bin/aws
[ -x "$aws" ] || aws=/usr/local/bin/aws
exec %s run --name %s -- "$aws" "$@"
`, quoted, lab)
}
