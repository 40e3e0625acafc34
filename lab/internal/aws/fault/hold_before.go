package fault

// HoldBefore withholds the answer; the call is carried out when it is released, however late that is.
const HoldBefore = "hold-before"

func holdBefore() kind {
	return kind{check: anything, run: func(a *armed, act func() (any, error)) (any, error) {
		if !a.gate.pass() {
			return nil, ErrNoAnswer
		}
		return act()
	}}
}

// anything goes.
func anything(Fault) error { return nil }
