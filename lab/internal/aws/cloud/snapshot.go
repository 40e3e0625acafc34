package cloud

import (
	"context"
	"encoding/json"
	"fmt"
)

// Export is the whole model as JSON.
func (c *Cloud) Export() ([]byte, error) {
	var b []byte
	var err error
	c.Read(func(m *Model) { b, err = json.MarshalIndent(m, "", " ") })
	if err != nil {
		return nil, fmt.Errorf("export the cloud: %w", err)
	}
	return b, nil
}

// Import replaces the model by an exported one and plans again what was under way.
func (c *Cloud) Import(ctx context.Context, data []byte) error {
	m := &Model{}
	if err := json.Unmarshal(data, m); err != nil {
		return fmt.Errorf("import a cloud: %w", err)
	}
	if m.Lab != c.cfg.Lab || m.Region != c.cfg.Region || m.Account != c.cfg.Account {
		return fmt.Errorf("import a cloud: it is of lab %q, region %s, account %s; expected lab %q, region %s, account %s",
			m.Lab, m.Region, m.Account, c.cfg.Lab, c.cfg.Region, c.cfg.Account)
	}
	m.fill()
	for _, e := range m.ENIs {
		s := m.Subnets[e.SubnetID]
		if s == nil {
			return fmt.Errorf("import a cloud: interface %s names the subnet %q, which is not there", e.ID, e.SubnetID)
		}
		s.hold(e)
	}
	return c.change(ctx, func(*Model) error {
		c.m, c.due = m, timeline{}
		for _, e := range m.ENIs {
			switch {
			case e.Attachment == nil:
			case e.Attachment.Status == Attaching:
				c.planAttached(e.ID, e.Attachment)
			case e.Attachment.Status == Detaching:
				c.planDetached(e.ID, e.Attachment)
			}
		}
		for _, i := range m.Instances {
			switch i.State {
			case ShuttingDown:
				c.planTermination(i.ID, c.cfg.Now())
			case Terminated:
				c.planForget(i.ID, i.TerminatedAt.Add(pastHour))
			}
		}
		return nil
	})
}
