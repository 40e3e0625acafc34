package bpfcover

import (
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// registers is a set of R0 to R9.
type registers uint16

const (
	none      registers = 0
	all       registers = 1<<10 - 1
	arguments registers = 1<<asm.R1 | 1<<asm.R2 | 1<<asm.R3 | 1<<asm.R4 | 1<<asm.R5
)

func only(r asm.Register) registers {
	if r > asm.R9 {
		return none
	}
	return 1 << r
}

// free is a register that isn't in the set; what a call spoils anyway first, as others must be saved.
func (s registers) free() (asm.Register, bool) {
	for r := asm.R0; r <= asm.R9; r++ {
		if s&only(r) == 0 {
			return r, true
		}
	}
	return 0, false
}

// effect says which registers an instruction reads and which it writes without reading. Where it isn't known,
// all are read, which is never wrong.
func effect(ins asm.Instruction) (reads, writes registers) {
	op := ins.OpCode
	dst, src := only(ins.Dst), only(ins.Src)
	switch class := op.Class(); {
	case class.IsALU():
		reads = dst
		if op.ALUOp() == asm.Mov {
			reads, writes = none, dst
		}
		if op.Source() == asm.RegSource && op.ALUOp() != asm.Swap {
			reads |= src
		}
		return reads, writes
	case class.IsJump():
		switch op.JumpOp() {
		case asm.Exit:
			return only(asm.R0), none
		case asm.Call:
			return arguments, arguments | only(asm.R0)
		case asm.Ja:
			return none, none
		}
		reads = dst
		if op.Source() == asm.RegSource {
			reads |= src
		}
		return reads, none
	case op.IsDWordLoad():
		return none, dst
	case class == asm.LdXClass:
		return src, dst
	case class == asm.StClass:
		return dst, none
	case class == asm.StXClass:
		if op.Mode() == asm.AtomicMode {
			return dst | src | only(asm.R0), none
		}
		return dst | src, none
	}
	return all, none
}

// liveness tells for each instruction which registers still matter when it begins. split has named the jumps'
// targets.
func liveness(insns asm.Instructions) []registers {
	named := map[string]int{}
	for i := range insns {
		if s := insns[i].Symbol(); s != "" {
			named[s] = i
		}
	}
	live := make([]registers, len(insns))
	for changed := true; changed; {
		changed = false
		for i := len(insns) - 1; i >= 0; i-- {
			ins := insns[i]
			op := ins.OpCode.JumpOp()
			var after registers
			if _, ok := jump(ins); ok {
				after = live[named[ins.Reference()]]
			}
			ends := ins.OpCode.Class().IsJump() && (op == asm.Exit || op == asm.Ja)
			if !ends && i+1 < len(insns) {
				after |= live[i+1]
			}
			reads, writes := effect(ins)
			if now := after&^writes | reads; now != live[i] {
				live[i] = now
				changed = true
			}
		}
	}
	return live
}

// stackDepths tells for each instruction how deep its function's stack is, as a negative offset.
func stackDepths(insns asm.Instructions) []int16 {
	depths := make([]int16, len(insns))
	begin := 0
	var deepest int16
	flush := func(end int) {
		for i := begin; i < end; i++ {
			depths[i] = deepest &^ 7
		}
		begin, deepest = end, 0
	}
	for i := range insns {
		ins := insns[i]
		if btf.FuncMetadata(&ins) != nil {
			flush(i)
		}
		op := ins.OpCode
		switch class := op.Class(); {
		case class == asm.LdXClass && ins.Src == asm.RFP, (class == asm.StClass || class == asm.StXClass) && ins.Dst == asm.RFP:
			deepest = min(deepest, ins.Offset)
		case class.IsALU() && op.ALUOp() == asm.Add && op.Source() == asm.ImmSource && ins.Constant < 0 && ins.Constant >= -512:
			// Addresses of what lives on the stack are computed so; a number that isn't one does no harm.
			deepest = min(deepest, int16(ins.Constant))
		}
	}
	flush(len(insns))
	return depths
}
