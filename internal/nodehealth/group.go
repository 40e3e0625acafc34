package nodehealth

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OpenPing lets processes of group 0 open ping sockets where nobody may, which is the kernel's default. root
// is /proc/sys/net. A range that somebody chose stays as it is.
func OpenPing(root string) error {
	path := filepath.Join(root, "ipv4", "ping_group_range")
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("node health: %w", err)
	}
	low, high, err := parseRange(string(b))
	if err != nil {
		return fmt.Errorf("node health: %s: %w", path, err)
	}
	if low <= high {
		if low > 0 {
			return fmt.Errorf("node health: net.ipv4.ping_group_range is %d to %d, expected one with group 0 or none: probes are by TCP alone until it has", low, high)
		}
		return nil
	}
	if err := os.WriteFile(path, []byte("0 0"), 0o644); err != nil {
		return fmt.Errorf("node health: %w", err)
	}
	return nil
}

func parseRange(s string) (low, high uint64, err error) {
	f := strings.Fields(s)
	if len(f) != 2 {
		return 0, 0, fmt.Errorf("is %q, expected two groups", s)
	}
	if low, err = strconv.ParseUint(f[0], 10, 32); err == nil {
		high, err = strconv.ParseUint(f[1], 10, 32)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("is %q, expected two groups: %w", s, err)
	}
	return low, high, nil
}
