package nodenet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// settings is the tree /proc/sys/net, wherever it is mounted writable. It always shows the namespace of
// the thread that reads it.
type settings struct{ root string }

// get reads a value; absent says that the kernel doesn't have the setting.
func (s settings) get(name string) (value string, absent bool, err error) {
	b, err := os.ReadFile(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", true, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("setting net/%s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), false, nil
}

func (s settings) path(name string) string { return filepath.Join(s.root, filepath.FromSlash(name)) }

// set writes a value if it differs; absent says that the kernel doesn't have the setting.
func (s settings) set(name, value string) (absent bool, err error) {
	old, absent, err := s.get(name)
	if err != nil || absent || old == value {
		return absent, err
	}
	if err := os.WriteFile(s.path(name), []byte(value), 0o644); err != nil {
		return false, fmt.Errorf("setting net/%s to %s: %w", name, value, err)
	}
	return false, nil
}

// node are settings of the whole node.
func (s settings) node() error {
	_, err := s.set("ipv4/ip_forward", "1")
	return err
}

// eni are settings of an ENI's device: replies to what came in by another ENI pass, and each ENI speaks
// ARP for its own address only.
func (s settings) eni(dev string) error {
	return s.device(dev, eniSettings())
}

func eniSettings() map[string]string {
	return map[string]string{"rp_filter": "2", "arp_ignore": "1", "arp_announce": "2", "send_redirects": "0"}
}

func podSettings() map[string]string {
	return map[string]string{"rp_filter": "2", "send_redirects": "0", "proxy_arp": "0"}
}

// pod are settings of the host's side of a pair.
func (s settings) pod(dev string) error {
	err := s.device(dev, podSettings())
	_, err6 := s.set("ipv6/conf/"+dev+"/disable_ipv6", "1")
	return errors.Join(err, err6)
}

func (s settings) device(dev string, values map[string]string) error {
	var errs []error
	for name, value := range values {
		absent, err := s.set("ipv4/conf/"+dev+"/"+name, value)
		if absent {
			err = fmt.Errorf("setting net/ipv4/conf/%s/%s is absent: is /proc/sys/net mounted at %s?", dev, name, s.root)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
