package traffic

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// firstPort and perSocket spread flows over ports that nobody listens on.
const (
	firstPort = 10000
	perSocket = 50000
)

// Fill begins so many flows on the path, of one datagram each, which live on wherever flows are tracked.
func Fill(p Path, flows int) error {
	return p.Client.Do(func() (err error) {
		for done := 0; done < flows; done += perSocket {
			if err := datagramsTo(p, min(perSocket, flows-done)); err != nil {
				return fmt.Errorf("flows to %s: %w", p.dial(), err)
			}
		}
		return nil
	})
}

// datagramsTo sends to one port after the other from one socket.
func datagramsTo(p Path, ports int) (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for i := range ports {
		if err := unix.Sendto(fd, []byte{0}, 0, &unix.SockaddrInet4{Port: firstPort + i, Addr: p.dial().As4()}); err != nil {
			return err
		}
	}
	return nil
}
