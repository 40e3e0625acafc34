package fabric

import (
	"context"
	"testing"
)

func BenchmarkApply(b *testing.B) {
	b.Run("unchanged", func(b *testing.B) {
		l := newLab(b)
		l.full()
		for b.Loop() {
			l.apply()
		}
	})
	b.Run("address", func(b *testing.B) {
		l := newLab(b)
		l.full()
		all := l.state.ENIs[0].Addresses
		for i := 0; b.Loop(); i++ {
			l.state.ENIs[0].Addresses = all[:1+i%2]
			l.apply()
		}
	})
	b.Run("plug", func(b *testing.B) {
		l := newLab(b)
		l.full()
		all := l.state.ENIs
		for b.Loop() {
			b.StopTimer()
			l.state.ENIs = append(all[:1:1], all[2:]...)
			l.apply()
			l.state.ENIs = all
			b.StartTimer()
			if err := l.f.Apply(context.Background(), l.state); err != nil {
				b.Fatal(err)
			}
		}
	})
}
