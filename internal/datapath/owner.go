package datapath

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A BusyError says that another process has the datapath open.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another process has the datapath pinned at %s open; expected one agent on a node: see which other weft-agent runs", e.Path)
}

// ErrSuperseded says that a later agent has taken the datapath over: what this one believes may be old, so
// it writes no more.
var ErrSuperseded = errors.New("another agent has taken over the datapath")

// lockPins keeps a second process out as long as the file is open, which ends with the process.
func lockPins(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &BusyError{Path: dir}
	} else if err != nil {
		err = &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// begin is how each change begins: alone, and only while no later agent has the datapath. A lock can be
// lost, with the file system it was on for one; the number in the map can't.
func (d *Datapath) begin() (func(), error) {
	d.mu.Lock()
	have, err := d.readConfig()
	if err == nil && have.Epoch != d.epoch {
		err = fmt.Errorf("%w: its number is %d, this one's is %d", ErrSuperseded, have.Epoch, d.epoch)
	}
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	return d.mu.Unlock, nil
}

func (d *Datapath) readConfig() (configValue, error) {
	var c configValue
	if err := d.maps[weftMapWeftConfig].Lookup(uint32(0), &c); err != nil {
		return c, fmt.Errorf("read %s: %w", weftMapWeftConfig, err)
	}
	return c, nil
}
