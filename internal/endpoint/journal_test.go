package endpoint

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func sample(id string) Endpoint {
	return Endpoint{Key: Key{"weft", id, "eth0"}, Slot: 3, Epoch: 9, Address: netip.MustParseAddr("10.0.0.9"), Generation: 4, ENI: "eni-1", DeviceIndex: 1,
		Pod: "shop/web", PodUID: "u", HostPorts: []HostPort{{Port: 8080, Target: 80, Protocol: "TCP"}, {Address: netip.MustParseAddr("10.0.0.9"), Port: 53, Target: 53, Protocol: "UDP"}}, Created: time.Unix(1_700_000_000, 0).UTC()}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j, l, err := OpenJournal(dir, "i-1", "boot-1")
	if err != nil || len(l.Endpoints) != 0 {
		t.Fatal(err, l)
	}
	e := sample("a")
	if err := errors.Join(j.Put(e), j.Put(sample("b")), j.Remove(Key{"weft", "b", "eth0"}), j.Remove(Key{"weft", "never", "eth0"})); err != nil {
		t.Fatal(err)
	}
	_, l, err = OpenJournal(dir, "i-1", "boot-1")
	if err != nil || len(l.Endpoints) != 1 || !reflect.DeepEqual(l.Endpoints[0], e) {
		t.Fatalf("read back %+v, %v", l, err)
	}
	_, l, err = OpenJournal(dir, "i-1", "boot-2")
	if err != nil || len(l.Endpoints) != 0 || len(l.OldBoot) != 1 {
		t.Fatalf("after a boot %+v, %v", l, err)
	}
	_, l, err = OpenJournal(dir, "i-2", "boot-2")
	if err != nil || len(l.Endpoints)+len(l.OldBoot) != 0 || l.SetAside != 1 {
		t.Fatalf("on another instance %+v, %v", l, err)
	}
	if _, l, err = OpenJournal(dir, "i-1", "boot-1"); err != nil || len(l.Endpoints) != 0 {
		t.Fatalf("what was set aside came back: %+v, %v", l, err)
	}
}

// TestJournalCutAnywhere: a write that a crash cut at any byte leaves the old entry; an entry that a
// disk cut at any byte is never believed and never stops the agent.
func TestJournalCutAnywhere(t *testing.T) {
	src := t.TempDir()
	j, _, err := OpenJournal(src, "i-1", "b")
	if err != nil {
		t.Fatal(err)
	}
	e := sample("a")
	if err := j.Put(e); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(j.path(e.Key))
	whole, err := os.ReadFile(j.path(e.Key))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		dir := t.TempDir()
		write := func(name string, b []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(name, whole)
		write("."+name+".tmp-123", whole[:n])
		_, l, err := OpenJournal(dir, "i-1", "b")
		if err != nil || len(l.Endpoints) != 1 || !reflect.DeepEqual(l.Endpoints[0], e) || len(l.Bad) != 0 {
			t.Fatalf("write cut at byte %d: %+v, %v", n, l, err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Fatalf("write cut at byte %d: %d files are left", n, len(files))
		}
		write(name, whole[:n])
		_, l, err = OpenJournal(dir, "i-1", "b")
		if err != nil || len(l.Endpoints) != 0 || len(l.Bad) != 1 {
			t.Fatalf("entry cut at byte %d: %+v, %v", n, l, err)
		}
	}
}

func TestJournalOfLaterVersion(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(`{"version":2,"shape":"unknown"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenJournal(dir, "i-1", "b"); !errors.Is(err, ErrVersion) {
		t.Errorf("journal of a later version: %v", err)
	}
}

func FuzzJournalEntry(f *testing.F) {
	b, err := json.Marshal(entry{Version: 1, Instance: "i-1", Boot: "b", Endpoint: sample("a")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err == nil && (e.Endpoint.ContainerID == "" || !e.Endpoint.Address.Is4() || e.Version != 1) {
			t.Errorf("accepted %q", b)
		}
	})
}
