package cloud

import (
	"context"
	"fmt"
	"time"
)

// Credentials are what a client signs with.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
}

// AccessKey is a user's, or a session's of a role.
type AccessKey struct {
	ID     string
	Secret string
	// User is set for a user's key.
	User string
	// Role and Session are set for a role's temporary key, with its token and its end.
	Role    string
	Session string
	Token   string
	Expires time.Time
	// Policy narrows a session, if set.
	Policy string
}

// Principal is who makes a request.
type Principal struct {
	ARN    string
	UserID string
	// Role is the role's ARN, if a role was taken.
	Role    string
	Account string
	// Policies are the documents of all its identity policies; Boundary narrows them, if set.
	Policies []string
	Boundary string
	Tags     map[string]string
}

// Session makes temporary credentials of a role.
func (c *Cloud) Session(ctx context.Context, role, session string, life time.Duration, policy string) (Credentials, Principal, error) {
	var cred Credentials
	var who Principal
	err := c.change(ctx, func(m *Model) error {
		r := m.Roles[role]
		if r == nil {
			return NoSuchEntity("The role with name %s cannot be found.", role)
		}
		now := c.cfg.Now()
		for id, k := range m.AccessKeys {
			// An expired key is kept for a day, so that its use is told from that of an unknown one.
			if !k.Expires.IsZero() && now.Sub(k.Expires) > 24*time.Hour {
				delete(m.AccessKeys, id)
			}
		}
		k := &AccessKey{ID: "ASIA" + randomText(c.rng, upper, 16), Secret: randomText(c.rng, secret, 40), Role: role, Session: session,
			Token: "IQoJb3JpZ2luX2VjE" + randomText(c.rng, secret[:62], 160), Expires: now.Add(life).Truncate(time.Second), Policy: policy}
		m.AccessKeys[k.ID] = k
		cred = Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.Token, Expiration: k.Expires}
		who = m.principal(k)
		return nil
	})
	return cred, who, err
}

// Key finds an access key and who it belongs to, with the policies that they have now.
func (c *Cloud) Key(id string) (AccessKey, Principal, bool) {
	var key AccessKey
	var who Principal
	ok := false
	c.Read(func(m *Model) {
		k := m.AccessKeys[id]
		if k == nil {
			return
		}
		key, who = *k, m.principal(k)
		ok = who.ARN != ""
	})
	return key, who, ok
}

func (m *Model) principal(k *AccessKey) Principal {
	if k.User != "" {
		u := m.Users[k.User]
		if u == nil {
			return Principal{}
		}
		return Principal{ARN: u.ARN, UserID: u.ID, Account: m.Account, Policies: m.documents(u.Inline, u.Attached)}
	}
	r := m.Roles[k.Role]
	if r == nil {
		return Principal{}
	}
	return Principal{
		ARN:    fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", m.Account, r.Name, k.Session),
		UserID: r.ID + ":" + k.Session, Role: r.ARN, Account: m.Account, Policies: m.documents(r.Inline, r.Attached),
		Boundary: k.Policy, Tags: cloneTags(r.Tags),
	}
}

// NodeRole is the role that an instance's profile hands out.
func (m *Model) NodeRole(i *Instance) *Role {
	if p := m.InstanceProfile[i.Profile]; p != nil {
		return m.Roles[p.Role]
	}
	return nil
}

// InstanceCredentials are those that IMDS gives: the same until shortly before they end.
func (c *Cloud) InstanceCredentials(ctx context.Context, instance string) (Credentials, error) {
	const life, renew = 6 * time.Hour, 15 * time.Minute
	var cred Credentials
	role := ""
	c.Read(func(m *Model) {
		i := m.Instances[instance]
		if i == nil {
			return
		}
		r := m.NodeRole(i)
		if r == nil {
			return
		}
		role = r.Name
		for _, k := range m.AccessKeys {
			if k.Role == r.Name && k.Session == instance && k.Expires.Sub(c.cfg.Now()) > renew && k.Expires.After(cred.Expiration) {
				cred = Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.Token, Expiration: k.Expires}
			}
		}
	})
	if role == "" {
		return cred, NoSuchEntity("instance %s has no role", instance)
	}
	if cred.AccessKeyID != "" {
		return cred, nil
	}
	cred, _, err := c.Session(ctx, role, instance, life, "")
	return cred, err
}
