package loadbalancer

import "slices"

// A Problem is something that a service asks for and doesn't get. The rest of it is served.
type Problem struct {
	Service Name
	Address Address // of the frontend, if it is about one
	Reason  string  // what was found and, where that isn't plain, what to do
}

func (p Problem) String() string {
	if !p.Address.IsValid() {
		return p.Reason
	}
	return p.Address.String() + ": " + p.Reason
}

// MaxProblems bounds what is told of one service.
const MaxProblems = 16

func appendProblem(all []Problem, p Problem) []Problem {
	if len(all) >= MaxProblems || slices.Contains(all, p) {
		return all
	}
	return append(all, p)
}
