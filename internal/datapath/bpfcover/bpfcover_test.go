package bpfcover

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// branches returns 1 for packets longer than 100 bytes and 2 for others, with every register in use at the
// fork if full.
func branches(full bool) asm.Instructions {
	insns := asm.Instructions{asm.LoadMem(asm.R6, asm.R1, 0, asm.Word).WithSymbol("main")}
	if full {
		for r := asm.R0; r <= asm.R9; r++ {
			if r != asm.R6 {
				insns = append(insns, asm.Mov.Imm(r, int32(r)))
			}
		}
	}
	long := asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
	short := asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}
	if full {
		sum := func(last int32) asm.Instructions {
			out := asm.Instructions{}
			for r := asm.R1; r <= asm.R9; r++ {
				if r != asm.R6 {
					out = append(out, asm.Add.Reg(asm.R0, r))
				}
			}
			return append(out, asm.Sub.Imm(asm.R0, 39), asm.Add.Imm(asm.R0, last), asm.Return())
		}
		long, short = sum(1), sum(2)
	}
	fork := asm.Instruction{OpCode: asm.JLE.Imm(asm.R6, 100, "").OpCode, Dst: asm.R6, Constant: 100, Offset: int16(len(long))}
	return slices.Concat(insns, asm.Instructions{fork}, long, short)
}

func TestMarksWhatRuns(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: eBPF")
	}
	for _, full := range []bool{false, true} {
		r, err := NewRecorder()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
			"main": {Type: ebpf.SchedCLS, License: "GPL", Instructions: branches(full)},
		}}
		if err := r.Instrument("object", spec); err != nil {
			t.Fatal(err)
		}
		p, err := ebpf.NewProgram(spec.Programs["main"])
		if err != nil {
			t.Fatalf("every register in use %v: %+v", full, err)
		}
		defer p.Close()
		blocks := len(r.objects["object"]["main"].blocks)
		if blocks != 3 {
			t.Fatalf("%d blocks, expected 3", blocks)
		}
		marks := func() []byte {
			value := make([]byte, maxBlocks)
			if err := r.marks.Lookup(uint32(0), &value); err != nil {
				t.Fatal(err)
			}
			return value[:blocks+1]
		}
		for _, step := range []struct {
			length int
			ret    uint32
			want   []byte
		}{
			{60, 2, []byte{1, 0, 1, 0}},
			{200, 1, []byte{1, 1, 1, 0}},
		} {
			ret, _, err := p.Test(make([]byte, step.length))
			if err != nil {
				t.Fatal(err)
			}
			if ret != step.ret || !bytes.Equal(marks(), step.want) {
				t.Errorf("every register in use %v, %d bytes: returned %d with marks %v, expected %d, %v", full, step.length, ret, marks(), step.ret, step.want)
			}
		}
	}
}

func TestALoadAgainHasTheSameMarks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: eBPF")
	}
	r, err := NewRecorder()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := func(full bool) *ebpf.CollectionSpec {
		return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"main": {Type: ebpf.SchedCLS, Instructions: branches(full)}}}
	}
	first, second := spec(false), spec(false)
	for _, s := range []*ebpf.CollectionSpec{first, second} {
		if err := r.Instrument("object", s); err != nil {
			t.Fatal(err)
		}
	}
	if r.used != 3 {
		t.Errorf("%d marks are used, expected 3", r.used)
	}
	other := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"main": {Instructions: asm.Instructions{asm.Return()}}}}
	if err := r.Instrument("object", other); err == nil {
		t.Error("another object under the same name is no error")
	}
}

func TestLiveness(t *testing.T) {
	insns := branches(false)
	if _, err := split(insns); err != nil {
		t.Fatal(err)
	}
	live := liveness(insns)
	for i, want := range []registers{only(asm.R1), only(asm.R6), none, only(asm.R0), none, only(asm.R0)} {
		if live[i] != want {
			t.Errorf("instruction %d (%v): %010b matter, expected %010b", i, insns[i], live[i], want)
		}
	}
}

func TestProfile(t *testing.T) {
	p := Profile{{"b.c", 2}: true, {"b.c", 1}: false, {"a.c", 7}: true}
	var text bytes.Buffer
	if err := p.Write(&text); err != nil {
		t.Fatal(err)
	}
	if want := "a.c:7 1\nb.c:1 0\nb.c:2 1\n"; text.String() != want {
		t.Errorf("written as %q, expected %q", text.String(), want)
	}
	again, err := ReadProfile(strings.NewReader(text.String() + "b.c:1 1\n"))
	if err != nil || !again[Line{"b.c", 1}] || again.Count() != (Count{Ran: 3, Lines: 3}) {
		t.Errorf("read as %v, %v", again, err)
	}
	report := p.Report(func(l Line) string { return "source of " + l.File })
	for _, want := range []string{"1 of     2 lines   50.0 %", "2 of     3 lines   66.7 %", "not run in b.c:\n     1  source of b.c\n"} {
		if !strings.Contains(report, want) {
			t.Errorf("report lacks %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "not run in a.c") {
		t.Errorf("report names a file that ran whole:\n%s", report)
	}
	for _, bad := range []string{"a.c 1", "a.c:x 1", "a.c:1", "a.c:1 2"} {
		if _, err := ReadProfile(strings.NewReader(bad + "\n")); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}
