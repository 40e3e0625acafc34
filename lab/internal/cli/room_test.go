package cli

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRoomFor(t *testing.T) {
	for _, c := range []struct {
		nodes, limit, used int
		fits               bool
	}{
		{3, 128, 0, true},
		{3, 128, 85, true},
		{3, 128, 86, false},
		{6, 128, 60, false},
	} {
		err := roomFor(c.nodes, c.limit, c.used)
		if (err == nil) != c.fits {
			t.Errorf("%+v: got %v", c, err)
		}
		if err != nil && !strings.Contains(err.Error(), "sysctl fs.inotify.max_user_instances=") {
			t.Errorf("%+v: %v doesn't say what to do", c, err)
		}
	}
}

func TestInotifyInUse(t *testing.T) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if n := inotifyInUse(); n < 1 {
		t.Errorf("found %d with one of our own open", n)
	}
}
