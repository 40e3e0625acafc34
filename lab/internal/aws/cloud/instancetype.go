package cloud

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// InstanceType is what EC2 says of a type.
type InstanceType struct {
	Name string
	// ENIs is the sum over all network cards, as the API has it: use Cards[0] for what can be attached by default.
	ENIs        int
	IPv4PerENI  int
	Hypervisor  string // nitro, xen; empty for bare metal
	VCPUs       int
	MemoryMiB   int
	Arch        string
	BareMetal   bool
	Cards       []int
	DefaultCard int
}

// Prefixes says whether /28 prefixes can be had: on Nitro and on bare metal of its age.
func (t InstanceType) Prefixes() bool { return t.Hypervisor == "nitro" || t.BareMetal }

// MaxPods is EKS's number for secondary addresses.
func (t InstanceType) MaxPods() int { return t.Cards[t.DefaultCard]*(t.IPv4PerENI-1) + 2 }

//go:embed instancetypes.csv
var instanceTypesCSV string

type typeTable struct {
	byName map[string]InstanceType
	order  []InstanceType
}

// instanceTypes is read once: it is data that never changes.
var instanceTypes = sync.OnceValues(func() (typeTable, error) { return parseTypes(instanceTypesCSV) })

func parseTypes(text string) (typeTable, error) {
	t := typeTable{byName: map[string]InstanceType{}}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return t, fmt.Errorf("instance types: %w", err)
	}
	for _, r := range rows[1:] {
		it := InstanceType{Name: r[0], Hypervisor: r[3], Arch: r[6], BareMetal: r[7] == "true"}
		for _, n := range []struct {
			to   *int
			text string
		}{{&it.ENIs, r[1]}, {&it.IPv4PerENI, r[2]}, {&it.VCPUs, r[4]}, {&it.MemoryMiB, r[5]}} {
			if *n.to, err = strconv.Atoi(n.text); err != nil {
				return t, fmt.Errorf("instance type %s: %w", r[0], err)
			}
		}
		sum := 0
		for _, card := range strings.Split(r[8], ";") {
			n, err := strconv.Atoi(card)
			if err != nil {
				return t, fmt.Errorf("instance type %s: %w", r[0], err)
			}
			it.Cards = append(it.Cards, n)
			sum += n
		}
		if sum != it.ENIs {
			return t, fmt.Errorf("instance type %s: cards have %d interfaces, the type %d", r[0], sum, it.ENIs)
		}
		if _, twice := t.byName[it.Name]; twice {
			return t, fmt.Errorf("instance type %s is listed twice", it.Name)
		}
		t.byName[it.Name] = it
		t.order = append(t.order, it)
	}
	return t, nil
}

// TypeByName looks a type up.
func TypeByName(name string) (InstanceType, bool) {
	t, err := instanceTypes()
	if err != nil {
		return InstanceType{}, false
	}
	it, ok := t.byName[name]
	return it, ok
}

// Types are all known types.
func Types() []InstanceType {
	t, err := instanceTypes()
	if err != nil {
		return nil
	}
	return t.order
}
