package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A pulse sleeps for beat and notes when it comes back later than tolerance.
const (
	beat      = time.Millisecond
	tolerance = 2 * time.Millisecond
	pulseArg  = "hitless-pulse"
)

// pulseChild beats on every processor twice, before everything else that the processor could do and among its
// equals, and prints what was late, until standard input ends.
func pulseChild(in io.Reader, out io.Writer) error {
	var mu sync.Mutex
	w := bufio.NewWriter(out)
	for i := range 2 * runtime.NumCPU() {
		cpu, first := i/2, i%2 == 0
		ready := make(chan error, 1)
		new(errgroup.Group).Go(func() error {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			err := unix.SchedSetaffinity(0, &set)
			if err == nil && first {
				err = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 90}, 0)
			}
			ready <- err
			sleep := unix.NsecToTimespec(int64(beat))
			for last := time.Now(); err == nil; {
				unix.Nanosleep(&sleep, nil) //nolint:errcheck // one that is interrupted is early
				now := time.Now()
				if now.Sub(last) > beat+tolerance {
					mu.Lock()
					_, err = fmt.Fprintln(w, first, last.Add(beat).UnixNano(), now.UnixNano())
					mu.Unlock()
				}
				last = now
			}
			return err
		})
		if err := <-ready; err != nil {
			return fmt.Errorf("processor %d for a pulse: %w", cpu, err)
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	mu.Lock() // for good: the process ends
	return w.Flush()
}

// pulses are running.
type pulses struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	out    *os.File
	cancel context.CancelFunc
	group  errgroup.Group
	own    []span
}

// feel starts a pulse in this process and one of a higher priority in another.
func feel(ctx context.Context) (*pulses, error) {
	p := &pulses{cmd: exec.Command("/proc/self/exe", pulseArg)}
	var err error
	if p.out, err = os.CreateTemp("", "weft-hitless-pulse-"); err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = p.out, os.Stderr
	p.cmd.Env = append(os.Environ(), "GOGC=off")
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, p.drop())
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, p.drop())
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.group.Go(func() error {
		for last := time.Now(); ctx.Err() == nil; {
			wait(ctx, beat)
			now := time.Now()
			if now.Sub(last) > beat+tolerance {
				p.own = append(p.own, span{last.Add(beat), now})
			}
			last = now
		}
		return nil
	})
	return p, nil
}

func (p *pulses) drop() error { return errors.Join(p.out.Close(), os.Remove(p.out.Name())) }

// end returns when the machine, and when this process, was late.
func (p *pulses) end() (late lateness, err error) {
	p.cancel()
	err = errors.Join(p.group.Wait(), p.stdin.Close(), p.cmd.Wait())
	if err != nil {
		return late, errors.Join(fmt.Errorf("pulse: %w", err), p.drop())
	}
	if _, err = p.out.Seek(0, io.SeekStart); err == nil {
		late, err = parseSpans(p.out)
	}
	late.asker = p.own
	return late, errors.Join(err, p.drop())
}

// lateness is when pulses were late: the machine's, those of its processors' users, that of the process that asks.
type lateness struct{ machine, users, asker []span }

func parseSpans(r io.Reader) (out lateness, err error) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		var first bool
		var from, to int64
		if _, err := fmt.Sscan(s.Text(), &first, &from, &to); err != nil {
			return out, fmt.Errorf("line %s of a pulse: %w", strconv.Quote(s.Text()), err)
		}
		list := &out.users
		if first {
			list = &out.machine
		}
		*list = append(*list, span{time.Unix(0, from), time.Unix(0, to)})
	}
	return out, s.Err()
}
