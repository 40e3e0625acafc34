package fault

// Lose carries the call out and ends the connection without an answer.
const Lose = "lose"

func lose() kind {
	return kind{check: anything, run: func(_ *armed, act func() (any, error)) (any, error) {
		// What became of it is nobody's to know.
		_, _ = act()
		return nil, ErrNoAnswer
	}}
}
