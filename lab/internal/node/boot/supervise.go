package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketWait   = 20 * time.Second
	restartPause = 200 * time.Millisecond
	stayedUp     = 20 * time.Second
	crashLimit   = 3
)

type daemon struct {
	Service
	pid   int
	began time.Time
}

// supervise starts the services, reaps every orphan of the node and restarts services that ended.
func supervise(spec Spec) error {
	if err := os.Setenv("PATH", BinDir+":/usr/local/sbin:/usr/sbin:/usr/bin"); err != nil {
		return err
	}
	// The end of pid 1 ends the node: the kernel kills everything in its process namespace.
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)

	status := map[string]Status{}
	var daemons []*daemon
	for _, s := range spec.Services {
		status[s.Name] = Status{}
		d := &daemon{Service: s}
		if err := d.start(); err != nil {
			return err
		}
		daemons = append(daemons, d)
		if s.Socket != "" {
			waitForSocket(s.Socket)
		}
	}
	writeStatus(status)
	retry := time.NewTicker(restartPause)
	defer retry.Stop()
	for {
		select {
		case <-term:
			return nil
		case <-children:
		case <-retry.C:
		}
		for _, end := range reap() {
			for _, d := range daemons {
				if d.pid == end.pid {
					d.ended(status, end.how)
				}
			}
		}
		for _, d := range daemons {
			if d.pid == 0 && time.Since(d.began) > delay(status[d.Name].Crashes) {
				if err := d.start(); err != nil {
					return err
				}
			}
		}
	}
}

// delay is how long after its last start a service is started again: at once at first, later rarely.
func delay(crashes int) time.Duration {
	if crashes < crashLimit {
		return restartPause
	}
	return 5 * time.Second
}

func (d *daemon) ended(status map[string]Status, how string) {
	s := status[d.Name]
	s.Restarts++
	s.Last = how
	if time.Since(d.began) > stayedUp {
		s.Crashes = 0
	}
	s.Crashes++
	status[d.Name] = s
	d.pid = 0
	fmt.Fprintf(os.Stderr, "%s %s ended: %s\n", time.Now().Format(time.RFC3339), d.Name, how)
	writeStatus(status)
}

func (d *daemon) start() error {
	log, err := os.OpenFile("/var/log/"+d.Name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := os.StartProcess(d.Args[0], d.Args, &os.ProcAttr{Dir: "/", Env: os.Environ(), Files: []*os.File{nil, log, log}})
	if err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	d.pid, d.began = p.Pid, time.Now()
	return p.Release()
}

type end struct {
	pid int
	how string
}

func reap() []end {
	var ends []end
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return ends
		}
		how := fmt.Sprintf("exit status %d", ws.ExitStatus())
		if ws.Signaled() {
			how = "signal " + ws.Signal().String()
		}
		ends = append(ends, end{pid, how})
	}
}

// waitForSocket waits until something answers there. If nothing does, the next service says why.
func waitForSocket(path string) {
	deadline := time.Now().Add(socketWait)
	for time.Now().Before(deadline) {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// writeStatus is for the lab to read; that it can't be written must not stop the node.
func writeStatus(status map[string]Status) {
	b, err := json.Marshal(status)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(StatusFile), 0o755)
	}
	if err == nil {
		err = os.WriteFile(StatusFile+".tmp", b, 0o644)
	}
	if err == nil {
		err = os.Rename(StatusFile+".tmp", StatusFile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "write status:", err)
	}
}
