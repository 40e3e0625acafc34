package datapath

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/datapath/bpfcover"
)

// objectWeft names the object that is shipped.
const objectWeft = "weft"

var (
	coverTo  = flag.String("bpfcover", "", "file to write to which lines of the programs' sources the tests ran")
	recorder *bpfcover.Recorder
)

// runRecorded runs the tests, with programs that tell what of them runs if anybody wants to know.
func runRecorded(m *testing.M) int {
	flag.Parse()
	if *coverTo == "" {
		return m.Run()
	}
	var err error
	if recorder, err = bpfcover.NewRecorder(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer recorder.Close()
	code := m.Run()
	if err := writeProfile(*coverTo); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// asShipped leaves a test to the run with the programs that ship: its subject is what goes through a kernel, or the
// lives of agents. Which lines run, tests that give the programs one packet after the other tell sooner.
func asShipped(t testing.TB) {
	t.Helper()
	if recorder != nil {
		t.Skip("runs with the programs as they ship")
	}
}

func writeProfile(path string) error {
	p, err := recorder.Profile(objectWeft)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(p.Write(file), file.Close())
}

// recorded is this version's object, instrumented if anybody wants to know.
func recorded() *Object {
	o := ThisVersion()
	if recorder == nil {
		return o
	}
	load := o.Load
	o.Load = func() (*ebpf.CollectionSpec, error) {
		spec, err := load()
		if err != nil {
			return nil, err
		}
		return spec, recorder.Instrument(objectWeft, spec)
	}
	return o
}
