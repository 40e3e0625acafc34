package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet/nstest"

	"github.com/vishvananda/netlink"
)

// A node that can't make a pod's network isn't Ready, says why, and has no conflist; once it can, nothing of
// the trial is left and its address is free at once.
func TestTrialGatesReady(t *testing.T) {
	r := newRig(t)
	journal := filepath.Join(r.dir, "state", "journal")
	r.must(os.MkdirAll(journal, 0o700))
	mountTiny(t, journal)
	// In a folder: opening the journal clears away files that aren't entries.
	other := filepath.Join(journal, "other")
	r.must(os.Mkdir(other, 0o700))
	fill(t, other)
	r.launch()
	nstest.Eventually(t, 15*time.Second, "the status says that the trial failed", func() error {
		c := meta.FindStatusCondition(r.cluster.lastStatus().Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Status != "False" || !strings.Contains(c.Message, "trial") || !strings.Contains(c.Message, "journal") {
			return fmt.Errorf("condition is %+v", c)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(r.dir, "conf", "05-weft.conflist")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the conflist is there before a trial worked: %v", err)
	}
	r.must(os.RemoveAll(other))
	r.awaitReady()
	if _, err := netlink.LinkByName(endpoint.DeviceName("trial", "eth0")); err == nil {
		t.Error("the trial left its device")
	}
	left, err := os.ReadDir(journal)
	r.must(err)
	if len(left) != 0 {
		t.Errorf("the trial left %v in the journal", left)
	}
	nstest.Eventually(t, 5*time.Second, "no address is in use", func() error {
		if s := r.cluster.lastStatus(); s.Used != 0 {
			return fmt.Errorf("status is %+v", s)
		}
		return nil
	})
	r.add("first")
}
