package endpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wanted marks addresses as wanted back.
func wanted(all []Assigned, which ...int) []Assigned {
	all = slices.Clone(all)
	for _, i := range which {
		all[i].Release = true
	}
	return all
}

func fencesOf(all []Assigned, which ...int) []Fence {
	var out []Fence
	for _, i := range which {
		out = append(out, Fence{all[i].Address, all[i].Generation})
	}
	return out
}

func expectFenced(t *testing.T, m *Manager, want []Fence) {
	t.Helper()
	if got := m.Usage().Fenced; !slices.Equal(got, want) {
		t.Errorf("told are %v, expected %v", got, want)
	}
}

// expectGiven makes endpoints until no address is left and compares which were given.
func expectGiven(t *testing.T, m *Manager, want []netip.Addr) {
	t.Helper()
	var got []netip.Addr
	for i := 0; ; i++ {
		e, err := m.Add(context.Background(), k(fmt.Sprintf("all-%d", i)), Pod{}, nil)
		if errors.Is(err, ErrNoAddress) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Address)
	}
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("given were %v, expected %v", got, want)
	}
}

// Only what is free and has rested is given up; the rest follows once it is free.
func TestFence(t *testing.T) {
	sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, t.TempDir(), sim, c, 4)
	all := assigned(0, 4)
	var eps []Endpoint
	for _, id := range []string{"ends", "stays"} {
		e, err := m.Add(context.Background(), k(id), Pod{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		eps = append(eps, e)
	}
	place := func(e Endpoint) int {
		return slices.IndexFunc(all, func(a Assigned) bool { return a.Address == e.Address })
	}
	ends, stays := place(eps[0]), place(eps[1])
	if err := m.Del(context.Background(), k("ends")); err != nil {
		t.Fatal(err)
	}
	all = wanted(all, ends, stays, 3)
	fence := func() {
		t.Helper()
		m.Assign(all)
		if err := m.Fence(all); err != nil {
			t.Fatal(err)
		}
	}
	fence()
	expectFenced(t, m, fencesOf(all, 3))
	if u := m.Usage(); u.Held != 3 || u.Used != 1 || u.Resting != 1 || u.Free != 1 {
		t.Errorf("usage is %+v", u.Counts)
	}
	c.advance(CoolDown + time.Second)
	fence()
	expectFenced(t, m, fencesOf(all, ends, 3))
	if err := m.Del(context.Background(), k("stays")); err != nil {
		t.Fatal(err)
	}
	c.advance(CoolDown + time.Second)
	fence()
	expectFenced(t, m, fencesOf(all, ends, stays, 3))
	expectGiven(t, m, []netip.Addr{all[2].Address})
}

// What is wanted back and not given up yet is given last, and then it isn't given up.
func TestFenceComesSecond(t *testing.T) {
	sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, t.TempDir(), sim, c, 2)
	all := wanted(assigned(0, 2), 0)
	m.Assign(all)
	for i, want := range []netip.Addr{all[1].Address, all[0].Address} {
		if e, err := m.Add(context.Background(), k(fmt.Sprint(i)), Pod{}, nil); err != nil || e.Address != want {
			t.Errorf("endpoint %d got %s, %v, expected %s", i, e.Address, err, want)
		}
	}
	if err := m.Fence(all); err != nil {
		t.Fatal(err)
	}
	expectFenced(t, m, nil)
}

// A fence holds though the wish is withdrawn, and ends with the generation.
func TestFenceEnds(t *testing.T) {
	dir, sim, c := t.TempDir(), newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, dir, sim, c, 3)
	all := wanted(assigned(0, 3), 0, 1)
	if err := m.Fence(all); err != nil {
		t.Fatal(err)
	}
	expectFenced(t, m, fencesOf(all, 0, 1))
	withdrawn := assigned(0, 3)
	for range 2 { // the second time in another process
		m.Assign(withdrawn)
		if err := m.Fence(withdrawn); err != nil {
			t.Fatal(err)
		}
		expectFenced(t, m, fencesOf(all, 0, 1))
		m = newTestManager(t, dir, sim, c, 3)
	}
	anew := assigned(0, 3)
	anew[0].Generation += 100
	m.Assign(anew)
	if err := m.Fence(anew); err != nil {
		t.Fatal(err)
	}
	expectFenced(t, m, fencesOf(all, 1))
	expectGiven(t, m, []netip.Addr{anew[0].Address, anew[2].Address})
	// Unassigned, it is no longer told; nor does a later process know it.
	if err := m.Fence(slices.Delete(slices.Clone(anew), 1, 2)); err != nil {
		t.Fatal(err)
	}
	expectFenced(t, m, nil)
	if u := newTestManager(t, dir, sim, c, 3).Usage(); len(u.Fenced) != 0 {
		t.Errorf("a later process knows %v", u.Fenced)
	}
}

// What the operator was told holds though the disk was lost, and is written again.
func TestFenceTold(t *testing.T) {
	dir, sim, c := t.TempDir(), newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	all := assigned(0, 3)
	j, _, err := OpenJournal(dir, "i-1", "b")
	if err != nil {
		t.Fatal(err)
	}
	store := &simFences{}
	m := NewManager(Config{Devices: sim, Programs: sim, Journal: j, Fences: store, Now: c.Now, Wait: 50 * time.Millisecond}, nil)
	m.Recover(nil, fencesOf(all, 2))
	m.Assign(all)
	expectGiven(t, m, []netip.Addr{all[0].Address, all[1].Address})
	if err := m.Fence(all); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(store.kept, fencesOf(all, 2)) {
		t.Errorf("written is %v", store.kept)
	}
	expectFenced(t, m, fencesOf(all, 2))
}

// simFences is a disk that can fail and that tells when it is written to.
type simFences struct {
	kept    []Fence
	err     error
	writing func()
}

func (s *simFences) Put(all []Fence) error {
	if s.writing != nil {
		s.writing()
	}
	if s.err == nil {
		s.kept = slices.Clone(all)
	}
	return s.err
}

// While the fence is written the address is given to nobody; if that fails it can be given again, and nobody
// was told.
func TestFenceDiskFails(t *testing.T) {
	sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, t.TempDir(), sim, c, 2)
	all := wanted(assigned(0, 2), 0, 1)
	m.Assign(all)
	full := errors.New("disk full")
	store := &simFences{err: full}
	store.writing = func() {
		if e, err := m.Add(context.Background(), k("meanwhile"), Pod{}, nil); !errors.Is(err, ErrNoAddress) {
			t.Errorf("%s was given while it was being fenced: %v", e.Address, err)
		}
		expectFenced(t, m, nil)
	}
	m.fences = store
	if err := m.Fence(all); !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
	expectFenced(t, m, nil)
	if e, err := m.Add(context.Background(), k("after"), Pod{}, nil); err != nil || e.Address != all[0].Address {
		t.Errorf("after the failure: %s, %v", e.Address, err)
	}
	store.err, store.writing = nil, nil
	if err := m.Fence(all); err != nil {
		t.Fatal(err)
	}
	expectFenced(t, m, fencesOf(all, 1))
}

// Whatever comes in whatever order: no endpoint ever has an address that was told under the generation that
// the node holds it in.
func TestFenceNeverGiven(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, now := NewPool(), time.Unix(1_700_000_000, 0)
		all := assigned(0, 6)
		told := map[Fence]bool{}
		for range 200 {
			now = now.Add(time.Duration(r.IntN(20)) * time.Second)
			switch i := r.IntN(len(all)); r.IntN(6) {
			case 0:
				all[i].Release = !all[i].Release
			case 1:
				all[i].Generation += 10 // taken and assigned anew, or wanted no more
			case 2:
				p.Assign(all)
			case 3:
				fresh := p.fence(all, now)
				p.endFences(all)
				p.Assign(all)
				if r.IntN(4) == 0 {
					p.unfence(fresh)
				} else {
					p.keepFences(p.fences(false))
				}
				for _, f := range p.fences(true) {
					told[f] = true
				}
			case 4:
				a, ok := p.Allocate(now)
				if f := (Fence{a.Address, a.Generation}); ok && told[f] {
					t.Fatalf("seed %d: %v was given after it was told", seed, f)
				}
			case 5:
				if _, ok := p.taken[all[i].Address]; ok {
					p.Release(all[i].Address, now)
				}
			}
			for _, f := range p.fences(true) {
				if _, ok := p.taken[f.Address]; ok {
					t.Fatalf("seed %d: %v is told and an endpoint's", seed, f)
				}
			}
		}
	}
}

const (
	fenceDir  = "WEFT_FENCE_DIR"
	fenceStep = "WEFT_FENCE_STEP"
)

// dyingFences kills its own process just before or just after the fences are written.
type dyingFences struct {
	FenceStore
	step string
}

func (d dyingFences) Put(all []Fence) error {
	d.die("unwritten")
	err := d.FenceStore.Put(all)
	d.die("written")
	return err
}

func (d dyingFences) die(step string) {
	if d.step == step {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// TestFenceChild is the process that TestFenceKilled kills.
func TestFenceChild(t *testing.T) {
	dir := os.Getenv(fenceDir)
	if dir == "" {
		t.Skip("runs inside TestFenceKilled")
	}
	m := newTestManager(t, dir, newSim(), &clock{now: time.Unix(1_700_000_000, 0)}, 3)
	d := dyingFences{m.fences, os.Getenv(fenceStep)}
	m.fences = d
	all := wanted(assigned(0, 3), 1)
	m.Assign(all)
	if err := m.Fence(all); err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Usage().Fenced {
		fmt.Printf("told %s %d\n", f.Address, f.Generation)
	}
	d.die("told")
	t.Fatal("not killed")
}

// TestFenceKilled kills a process between the steps of a fence. Meanwhile the wish is withdrawn: what may have
// been told stays fenced, what was not can be given.
func TestFenceKilled(t *testing.T) {
	all := assigned(0, 3)
	for _, test := range []struct {
		step   string
		told   bool
		fenced []int
		given  []int
	}{
		{"unwritten", false, nil, []int{0, 1, 2}},
		{"written", false, []int{1}, []int{0, 2}},
		{"told", true, []int{1}, []int{0, 2}},
	} {
		t.Run(test.step, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestFenceChild$")
			cmd.Env = append(os.Environ(), fenceDir+"="+dir, fenceStep+"="+test.step)
			out, err := cmd.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("child: %v: %s", err, out)
			}
			var told []string
			for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
				told = append(told, s.Text())
			}
			want := []string(nil)
			if test.told {
				want = []string{fmt.Sprintf("told %s %d", all[1].Address, all[1].Generation)}
			}
			if !slices.Equal(told, want) {
				t.Errorf("the child said %q, expected %q", told, want)
			}
			m := newTestManager(t, dir, newSim(), &clock{now: time.Unix(1_700_000_000, 0)}, 3)
			if err := m.Fence(all); err != nil {
				t.Fatal(err)
			}
			expectFenced(t, m, fencesOf(all, test.fenced...))
			var given []netip.Addr
			for _, i := range test.given {
				given = append(given, all[i].Address)
			}
			expectGiven(t, m, given)
		})
	}
}

// The file is this instance's, whole, and of a known version, or it is set aside.
func TestFencesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fences.json")
	open := func(instance string) (*Fences, []Fence, string) {
		t.Helper()
		f, all, aside, err := OpenFences(path, instance)
		if err != nil {
			t.Fatal(err)
		}
		return f, all, aside
	}
	want := fencesOf(assigned(0, 2), 0, 1)
	f, all, aside := open("i-1")
	if len(all) != 0 || aside != "" {
		t.Errorf("a new file has %v, aside %q", all, aside)
	}
	if err := f.Put(want); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(filepath.Dir(path), ".fences.json.tmp-1")
	if err := os.WriteFile(cut, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, all, aside := open("i-1"); !slices.Equal(all, want) || aside != "" {
		t.Errorf("read back: %v, aside %q", all, aside)
	}
	if _, err := os.Stat(cut); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a cut write left is there: %v", err)
	}
	if _, all, aside := open("i-2"); len(all) != 0 || !strings.HasSuffix(aside, ".instance-i-1") {
		t.Errorf("another instance reads %v, aside %q", all, aside)
	}
	if err := os.WriteFile(path, []byte(`{"version":1,"instance":"i-1","fences":[{"generation":3}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, all, aside := open("i-1"); len(all) != 0 || !strings.HasSuffix(aside, ".unreadable") {
		t.Errorf("half a fence is read as %v, aside %q", all, aside)
	}
	if err := os.WriteFile(path, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenFences(path, "i-1"); !errors.Is(err, ErrVersion) {
		t.Errorf("of a later version: %v", err)
	}
}

func FuzzParseFences(f *testing.F) {
	f.Add([]byte(`{"version":1,"instance":"i-1","fences":[{"address":"10.0.0.1","generation":3}]}`))
	f.Add([]byte(`{"version":9}`))
	f.Add([]byte(`{"version":1,"instance":"i-1","fences":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parseFences(b)
		if err != nil {
			return
		}
		for _, one := range file.Fences {
			if !one.Address.IsValid() {
				t.Error("a fence without an address passed")
			}
		}
		if file.Instance == "" || file.Version != fencesVersion {
			t.Errorf("%+v passed", file)
		}
	})
}
