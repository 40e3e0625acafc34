package loadbalancer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// claims say who wants which address. Of several the one has it whose kind comes first, then the oldest, then the
// first by name: whoever comes later can't take it away.
type claims struct {
	at map[Address][]claim
	by map[Name][]Address
}

type claim struct {
	service Name
	kind    Kind
	age     time.Time
}

func newClaims() claims { return claims{at: map[Address][]claim{}, by: map[Name][]Address{}} }

func (c claim) compare(o claim) int {
	return cmp.Or(cmp.Compare(c.kind, o.kind), c.age.Compare(o.age), c.service.compare(o.service))
}

// set makes these the service's claims and adds the addresses to contested that several claimed before or do now.
func (c *claims) set(service Name, age time.Time, frontends []Frontend, contested map[Address]bool) {
	for _, a := range c.by[service] {
		if len(c.at[a]) > 1 {
			contested[a] = true
		}
		if c.at[a] = slices.DeleteFunc(c.at[a], func(o claim) bool { return o.service == service }); len(c.at[a]) == 0 {
			delete(c.at, a)
		}
	}
	delete(c.by, service)
	if len(frontends) == 0 {
		return
	}
	addresses := make([]Address, 0, len(frontends))
	for i := range frontends {
		f := &frontends[i]
		if f.Scope == Outside {
			continue // has the address of one of scope Cluster
		}
		addresses = append(addresses, f.Address)
		if c.at[f.Address] = append(c.at[f.Address], claim{service, f.Kind, age}); len(c.at[f.Address]) > 1 {
			contested[f.Address] = true
		}
	}
	c.by[service] = addresses
}

// of are the services with a claim to one of the addresses.
func (c *claims) of(addresses map[Address]bool) map[Name]bool {
	out := map[Name]bool{}
	for a := range addresses {
		for _, o := range c.at[a] {
			out[o.service] = true
		}
	}
	return out
}

// won leaves the service the addresses that it has, and tells which it doesn't.
func (c *claims) won(service Name, all []Frontend, problems []Problem) ([]Frontend, []Problem) {
	return slices.DeleteFunc(all, func(f Frontend) bool {
		if len(c.at[f.Address]) < 2 {
			return false
		}
		first := slices.MinFunc(c.at[f.Address], claim.compare)
		if first.service == service {
			return false
		}
		problems = appendProblem(problems, Problem{Service: service, Address: f.Address,
			Reason: fmt.Sprintf("isn't served as %s: %s has it as %s", f.Kind, first.service, first.kind)})
		return true
	}), problems
}
