// Package suites names the tests that run on every kernel.
package suites

// A Suite is the tests of a package, as one binary.
type Suite struct {
	Binary  string
	Package string // import path
	// Chosen says that only the tests that are chosen run; all of them would take too long without acceleration.
	Chosen bool
}

// All run one after another.
func All() []Suite {
	return []Suite{
		{Binary: "datapath.test", Package: "github.com/weft-cni/weft/internal/datapath", Chosen: true},
		{Binary: "rig.test", Package: "github.com/weft-cni/weft/test/rig", Chosen: true},
		{Binary: "nodenet.test", Package: "github.com/weft-cni/weft/internal/nodenet", Chosen: true},
		{Binary: "socklb.test", Package: "github.com/weft-cni/weft/internal/socklb"},
	}
}

// Arguments of the suite's binary.
func (s Suite) Arguments(chosen string) []string {
	args := []string{"-test.v", "-test.timeout=40m"}
	if s.Chosen {
		args = append(args, "-test.run="+chosen)
	}
	return args
}
