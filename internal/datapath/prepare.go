package datapath

import (
	"errors"
	"net/netip"
)

// Prepare writes the entries of all that is to be attached, and attaches nothing. Called before the first
// SetENI and AddEndpoint of an agent: maps may be new and empty, because their layout changed, and the
// first program that is replaced must find what the last one that is still to be replaced found in its
// own. What can't be written isn't there yet, or can't be attached either.
func (d *Datapath) Prepare(endpoints []Endpoint, enis []ENI, addrs map[netip.Addr]uint32) error {
	var errs []error
	for addr, eni := range addrs {
		if err := ValidateAddress(addr, eni); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.locked(func() error { return d.writeAddress(addr, eni) }))
	}
	for _, e := range endpoints {
		if err := e.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.locked(func() error { return d.writeEndpoint(e) }))
	}
	for _, e := range enis {
		want, err := deviceOf(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.locked(func() error { return d.prepareENI(e.Handle, want) }))
	}
	return errors.Join(errs...)
}

// prepareENI leaves an entry that names another device to SetENI, which knows what to do with that one.
func (d *Datapath) prepareENI(handle uint32, want eniValue) error {
	var old eniValue
	if err := d.maps[weftMapWeftEnis].Lookup(handle, &old); err != nil {
		return err
	}
	if old.Flags&eniValid != 0 {
		return nil
	}
	_, err := d.writeENI(handle, want)
	return err
}

func (d *Datapath) locked(do func() error) error {
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	return do()
}
