package fault

// HoldAfter carries the call out at once and withholds the answer until it is released.
const HoldAfter = "hold-after"

func holdAfter() kind {
	return kind{check: anything, run: func(a *armed, act func() (any, error)) (any, error) {
		out, err := act()
		if !a.gate.pass() {
			return nil, ErrNoAnswer
		}
		return out, err
	}}
}
