package flow

import (
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Capture writes records' packets to a file that tcpdump and Wireshark read, each with its line as comment.
type Capture struct{ w *pcapgo.NgWriter }

// NewCapture writes the file's head.
func NewCapture(w io.Writer) (*Capture, error) {
	ng, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: "weft", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "weft"}})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	c := &Capture{w: ng}
	return c, c.flush()
}

// Write adds a record's packet; one without data isn't a packet, and no error.
func (c *Capture) Write(r Record) error {
	if len(r.Data) == 0 {
		return nil
	}
	info := gopacket.CaptureInfo{Timestamp: r.Time, CaptureLength: len(r.Data), Length: max(r.Length, len(r.Data))}
	if err := c.w.WritePacketWithOptions(info, r.Data, pcapgo.NgPacketOptions{Comments: []string{Line(r, false)}}); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return c.flush()
}

func (c *Capture) flush() error {
	if err := c.w.Flush(); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}
