// Command sizing asks the kernel how much memory the datapath's maps take, and writes it down with the
// formula that follows. It needs root.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/datapath"
)

func main() {
	write := flag.String("write", "", "file to write to, as docs/sizing.md; otherwise it is printed")
	flag.Parse()
	if err := run(*write, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sizing:", err)
		os.Exit(1)
	}
}

func run(path string, stdout io.Writer) error {
	m, err := measure()
	if err != nil {
		return err
	}
	page := m.page()
	if path == "" {
		_, err := stdout.Write(page)
		return err
	}
	return os.WriteFile(path, page, 0o644)
}

// A measurement is the maps in their default sizes and what each further entry takes.
type measurement struct {
	kernel           string
	maps             []datapath.MapMemory
	perTCP, perOther float64 // bytes
}

// step is large enough that the rounding of tables to powers of two shows only where it is: the sizes
// measured are powers of two themselves, as a table of others takes as many buckets as the next one.
const step = 1 << 17

func measure() (measurement, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return measurement{}, err
	}
	m := measurement{kernel: unix.ByteSliceToString(u.Release[:])}
	var err error
	if m.maps, err = datapath.Memory(datapath.Sizes{}); err != nil {
		return m, err
	}
	var totals [3]uint64
	for i, s := range []datapath.Sizes{
		{ConntrackTCP: step, ConntrackAny: step},
		{ConntrackTCP: 2 * step, ConntrackAny: step},
		{ConntrackTCP: step, ConntrackAny: 2 * step},
	} {
		list, err := datapath.Memory(s)
		if err != nil {
			return m, err
		}
		totals[i] = total(list)
	}
	m.perTCP = float64(totals[1]-totals[0]) / step
	m.perOther = float64(totals[2]-totals[0]) / step
	return m, nil
}

func total(list []datapath.MapMemory) uint64 {
	var sum uint64
	for _, m := range list {
		sum += m.Bytes
	}
	return sum
}

// small is where maps are no longer named one by one.
const small = 512 << 10

func (m measurement) page() []byte {
	var b bytes.Buffer
	var large, rest uint64
	for _, x := range m.maps {
		if x.Bytes >= small {
			large += x.Bytes
		} else {
			rest += x.Bytes
		}
	}
	fmt.Fprintf(&b, `# Sizing

Written by `+"`go run ./test/sizing -write docs/sizing.md`"+`, as kernel %s counts it.

The tables of connections take their memory when they are made, so that a flood can't take any: what a node
uses doesn't depend on its traffic.

    memory = %.0f B × bpf.ctTcpMax + %.0f B × bpf.ctAnyMax + %s for everything else

| value | default | holds | full |
| --- | --- | --- | --- |
| `+"`bpf.ctTcpMax`"+` | 524288 | established TCP connections and SCTP associations; two entries each if they are masqueraded | further ones stay in the other table, where newer flows may evict them; counted |
| `+"`bpf.ctAnyMax`"+` | 262144 | what is beginning, and flows of other protocols; two entries each if masqueraded | the flow that was used least recently is forgotten |

With the defaults: %s. A smaller node wants smaller tables: a quarter of both takes %s and still holds
131072 connections. `+"`bpf.mapDynamicSizeRatio`"+` gives both tables together that part of each node's memory, two places in the first to one
in the other, and not less than 131072 and 65536: 0.0025 is 20 MiB of 8 GiB, so those least ones, and 0.01 of 32 GiB is 829944 and 414972 connections. A size that is set wins.

A table that exists keeps its size, or its connections would be lost: `+"`weft status`"+` names the nodes whose tables have another size than is
configured. A reboot makes them anew. `+"`bpf.natMax` and `bpf.neighMax`"+` change nothing: translated connections stand in the same two tables, and
neighbours in none.

| map | entries | memory |
| --- | --- | --- |
`, m.kernel, m.perTCP, m.perOther, mib(m.fixed()), mib(large+rest), mib(m.quarter()))
	for _, x := range m.maps {
		if x.Bytes >= small {
			fmt.Fprintf(&b, "| `%s` | %d | %s |\n", x.Name, x.Entries, mib(x.Bytes))
		}
	}
	fmt.Fprintf(&b, "| others | | %s |\n", mib(rest))
	return b.Bytes()
}

const (
	defaultTCP   = 524288
	defaultOther = 262144
)

// fixed is what doesn't follow the sizes of the tables.
func (m measurement) fixed() uint64 {
	tables := uint64(m.perTCP*defaultTCP + m.perOther*defaultOther)
	return max(total(m.maps), tables) - tables
}

func (m measurement) quarter() uint64 {
	return m.fixed() + uint64(m.perTCP*defaultTCP+m.perOther*defaultOther)/4
}

func mib(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
