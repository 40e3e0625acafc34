package endpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/weft-cni/weft/internal/contract"
)

// Key names an endpoint as the CNI specification does.
type Key struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func (k Key) String() string {
	return fmt.Sprintf("%s/%s/%s", k.Network, k.ContainerID, k.IfName)
}

// Endpoint is one interface of one pod.
type Endpoint struct {
	Key
	// Slot is the endpoint's number on this node: its device has the index IfindexBase+Slot.
	Slot uint32 `json:"slot"`
	// Epoch grows with each endpoint of this node, so that a reused slot or address is told from the
	// one before.
	Epoch uint32 `json:"epoch"`
	// Address, and the generation under which the node got it.
	Address    netip.Addr `json:"address"`
	Generation int64      `json:"generation"`
	// ENI and DeviceIndex say which interface of the instance the address belongs to.
	ENI         string `json:"eni"`
	DeviceIndex int32  `json:"deviceIndex"`
	// Pod is namespace/name; PodUID as the runtime gave it.
	Pod    string `json:"pod,omitempty"`
	PodUID string `json:"podUID,omitempty"`
	// Limits are the pod's, as they were when it was made.
	Limits Limits `json:"limits,omitzero"`
	// HostPorts are the pod's, whoever serves them.
	HostPorts []HostPort `json:"hostPorts,omitempty"`
	// Kind of the device that the pod was made with.
	Kind Kind `json:"kind,omitempty"`
	// Created and Released are wall-clock times. A released endpoint stays in the journal while its
	// address rests.
	Created  time.Time `json:"created"`
	Released time.Time `json:"released,omitzero"`
	// Found is the name of a device that was found without a record of whose it is.
	Found string `json:"-"`
}

// Device is the name of the host side of the endpoint's pair.
func (e Endpoint) Device() string {
	if e.Found != "" {
		return e.Found
	}
	return DeviceName(e.ContainerID, e.IfName)
}

// DeviceName derives the name of a host side, so that it is found without any record.
func DeviceName(containerID, ifName string) string {
	h := sha256.Sum256([]byte(containerID + "\x00" + ifName))
	return contract.DevicePrefix + hex.EncodeToString(h[:5])
}

// Ifindex is the index of the host side.
func (e Endpoint) Ifindex() int { return contract.IfindexBase + int(e.Slot) }

// MAC is the pod's own; all zero where the device has none.
func (e Endpoint) MAC() net.HardwareAddr {
	if e.Kind == Netkit {
		return make(net.HardwareAddr, 6)
	}
	m := contract.EndpointMAC(e.Address)
	return m[:]
}

// HostMAC is that of the host side.
func (e Endpoint) HostMAC() net.HardwareAddr {
	if e.Kind == Netkit {
		return make(net.HardwareAddr, 6)
	}
	m := contract.HostMAC()
	return m[:]
}

// ENIHandle is how the datapath names the endpoint's ENI.
func (e Endpoint) ENIHandle() uint32 { return uint32(e.DeviceIndex) + 1 }
