package socklb

// counted is a map whose writes are counted, removals too.
type counted struct {
	store
	writes *uint64
}

func (c counted) Put(key, value any) error {
	*c.writes++
	return c.store.Put(key, value)
}

func (c counted) Delete(key any) error {
	*c.writes++
	return c.store.Delete(key)
}

// count has every write counted.
func (s stores) count(writes *uint64) stores {
	return stores{frontends: counted{s.frontends, writes}, backends: counted{s.backends, writes}, members: counted{s.members, writes},
		ranges: counted{s.ranges, writes}, maglev: counted{s.maglev, writes}}
}
