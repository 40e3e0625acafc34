// Package bpfcover tells which lines of eBPF programs' C sources were run, by a mark at the beginning of each
// of their basic blocks.
package bpfcover

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// A Line is a line of a C file, as the compiler named it.
type Line struct {
	File   string
	Number int
}

// A block is instructions that run one after the other, once the first does.
type block struct {
	lines []Line
}

// mark writes 1 into the byte at an offset of the map's value.
func mark(register asm.Register, fd int, offset uint32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(register, fd, offset),
		asm.StoreImm(register, 0, 1, asm.Byte),
	}
}

// instrument returns the program with a mark before each block, whose byte is base and the block's number, and
// the blocks. Jumps become symbolic, as their distances grow.
func instrument(insns asm.Instructions, fd int, base uint32) (asm.Instructions, []block, error) {
	insns = append(asm.Instructions(nil), insns...)
	starts, err := split(insns)
	if err != nil {
		return nil, nil, err
	}
	live := liveness(insns)
	depth := stackDepths(insns)
	var out asm.Instructions
	var blocks []block
	var line Line
	for i, ins := range insns {
		if ins.Symbol() != "" && btf.FuncMetadata(&ins) != nil {
			line = Line{}
		}
		if l, ok := ins.Source().(*btf.Line); ok {
			line = Line{File: l.FileName(), Number: int(l.LineNumber())}
		}
		if starts[i] {
			head, err := marked(&ins, live[i], depth[i], fd, base+uint32(len(blocks)))
			if err != nil {
				return nil, nil, fmt.Errorf("instruction %d: %w", i, err)
			}
			out = append(out, head...)
			blocks = append(blocks, block{})
		}
		out = append(out, ins)
		last := &blocks[len(blocks)-1]
		if n := len(last.lines); line.Number > 0 && (n == 0 || last.lines[n-1] != line) {
			last.lines = append(last.lines, line)
		}
	}
	return out, blocks, nil
}

// marked is what goes before a block's first instruction; what others know the instruction by moves there.
func marked(ins *asm.Instruction, live registers, depth int16, fd int, offset uint32) (asm.Instructions, error) {
	var head asm.Instructions
	if register, ok := live.free(); ok {
		head = mark(register, fd, offset)
	} else {
		const spilled = asm.R0
		at := depth - 8
		if at < -512 {
			return nil, errors.New("no register is free and the stack is full")
		}
		head = asm.Instructions{asm.StoreMem(asm.RFP, at, spilled, asm.DWord)}
		head = append(head, mark(spilled, fd, offset)...)
		head = append(head, asm.LoadMem(spilled, asm.RFP, at, asm.DWord))
	}
	if s := ins.Symbol(); s != "" {
		head[0] = head[0].WithSymbol(s)
		*ins = ins.WithSymbol("")
	}
	if fn := btf.FuncMetadata(ins); fn != nil {
		head[0] = btf.WithFuncMetadata(head[0], fn)
		*ins = btf.WithFuncMetadata(*ins, nil)
		// The kernel wants a line for each function's first instruction.
		head[0] = head[0].WithSource(ins.Source())
	}
	return head, nil
}

// split finds the first instructions of all blocks and gives jumps' targets names.
func split(insns asm.Instructions) ([]bool, error) {
	starts := make([]bool, len(insns))
	at := map[asm.RawInstructionOffset]int{}
	for iter := insns.Iterate(); iter.Next(); {
		at[iter.Offset] = iter.Index
	}
	for iter := insns.Iterate(); iter.Next(); {
		i, ins := iter.Index, iter.Ins
		if i == 0 || btf.FuncMetadata(ins) != nil {
			starts[i] = true
		}
		distance, ok := jump(*ins)
		if !ok {
			if ins.OpCode.JumpOp() == asm.Exit && ins.OpCode.Class().IsJump() && i+1 < len(insns) {
				starts[i+1] = true
			}
			continue
		}
		target, found := at[asm.RawInstructionOffset(int64(iter.Offset)+1+distance)]
		if !found {
			return nil, fmt.Errorf("instruction %d jumps to no instruction", i)
		}
		starts[target] = true
		if i+1 < len(insns) {
			starts[i+1] = true
		}
		name := insns[target].Symbol()
		if name == "" {
			name = "block " + strconv.Itoa(target)
			insns[target] = insns[target].WithSymbol(name)
		}
		*ins = ins.WithReference(name)
		if long(*ins) {
			ins.Constant = -1
		} else {
			ins.Offset = -1
		}
	}
	return starts, nil
}

// long says that the distance is in the constant.
func long(ins asm.Instruction) bool {
	return ins.OpCode.Class() == asm.Jump32Class && ins.OpCode.JumpOp() == asm.Ja
}

// jump returns how far the instruction may jump, if it does.
func jump(ins asm.Instruction) (distance int64, ok bool) {
	op := ins.OpCode.JumpOp()
	if !ins.OpCode.Class().IsJump() || op == asm.Exit || op == asm.Call {
		return 0, false
	}
	if long(ins) {
		return ins.Constant, true
	}
	return int64(ins.Offset), true
}
