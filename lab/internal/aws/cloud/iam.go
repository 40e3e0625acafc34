package cloud

import (
	"context"
	"embed"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// Role is an IAM role.
type Role struct {
	Name        string
	Path        string
	ID          string
	ARN         string
	Description string
	// Trust is the policy that says who may take the role.
	Trust      string
	Inline     map[string]string
	Attached   []string
	MaxSession int
	Tags       map[string]string
	Created    time.Time
}

// Policy is a managed policy, AWS's own or the account's.
type Policy struct {
	Name        string
	Path        string
	ID          string
	ARN         string
	Description string
	Document    string
	Tags        map[string]string
	Created     time.Time
}

// User is an IAM user.
type User struct {
	Name     string
	ID       string
	ARN      string
	Inline   map[string]string
	Attached []string
	Created  time.Time
}

// InstanceProfile hands a role to instances.
type InstanceProfile struct {
	Name, ID, ARN, Role string
	Created             time.Time
}

// OIDCProvider is an issuer whose tokens IAM accepts.
type OIDCProvider struct {
	ARN string
	// URL is without https://, as policies name it.
	URL         string
	ClientIDs   []string
	Thumbprints []string
	Created     time.Time
}

//go:embed managedpolicies/*.json
var managedPolicies embed.FS

func (m *Model) addManagedPolicies(now time.Time) {
	files, err := managedPolicies.ReadDir("managedpolicies")
	if err != nil {
		return
	}
	for _, f := range files {
		text, err := managedPolicies.ReadFile(path.Join("managedpolicies", f.Name()))
		if err != nil {
			continue
		}
		name := strings.TrimSuffix(f.Name(), ".json")
		arn := "arn:aws:iam::aws:policy/" + name
		m.Policies[arn] = &Policy{Name: name, Path: "/", ID: "ANPA" + strings.ToUpper(fmt.Sprintf("%017x", len(name)*7919)), ARN: arn, Document: string(text), Created: now}
	}
}

func serviceTrust(service string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":%q},"Action":["sts:AssumeRole","sts:TagSession"]}]}`, service)
}

func (c *Cloud) newRole(m *Model, path, name, trust string) *Role {
	r := &Role{
		Name: name, Path: path, ID: "AROA" + randomText(c.rng, upper, 17), Trust: trust, Inline: map[string]string{},
		MaxSession: 3600, Tags: map[string]string{}, Created: c.cfg.Now(),
		ARN: fmt.Sprintf("arn:aws:iam::%s:role%s%s", m.Account, path, name),
	}
	m.Roles[name] = r
	return r
}

// NoSuchEntity is IAM's error for what does not exist.
func NoSuchEntity(format string, args ...any) error {
	return apierror.WithStatus(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func alreadyExists(format string, args ...any) error {
	return apierror.WithStatus(http.StatusConflict, "EntityAlreadyExists", format, args...)
}

// ChangeIAM changes roles, policies and providers. f validates before it alters anything.
func (c *Cloud) ChangeIAM(ctx context.Context, f func(m *Model) error) error { return c.change(ctx, f) }

// CreateRole makes a role. The caller has checked the trust policy.
func (c *Cloud) CreateRole(ctx context.Context, r Role) (Role, error) {
	var out Role
	err := c.change(ctx, func(m *Model) error {
		if m.Roles[r.Name] != nil {
			return alreadyExists("Role with name %s already exists.", r.Name)
		}
		if r.Path == "" {
			r.Path = "/"
		}
		n := c.newRole(m, r.Path, r.Name, r.Trust)
		n.Description, n.Tags = r.Description, cloneTags(r.Tags)
		if r.MaxSession != 0 {
			n.MaxSession = r.MaxSession
		}
		out = *n
		return nil
	})
	return out, err
}

// CreatePolicy makes a managed policy of the account's own. The caller has checked the document.
func (c *Cloud) CreatePolicy(ctx context.Context, p Policy) (Policy, error) {
	var out Policy
	err := c.change(ctx, func(m *Model) error {
		if p.Path == "" {
			p.Path = "/"
		}
		p.ARN = fmt.Sprintf("arn:aws:iam::%s:policy%s%s", m.Account, p.Path, p.Name)
		if m.Policies[p.ARN] != nil {
			return alreadyExists("A policy called %s already exists. Duplicate names are not allowed.", p.Name)
		}
		p.ID, p.Created, p.Tags = "ANPA"+randomText(c.rng, upper, 17), c.cfg.Now(), cloneTags(p.Tags)
		m.Policies[p.ARN] = &p
		out = p
		return nil
	})
	return out, err
}

// CreateOIDCProvider registers an issuer.
func (c *Cloud) CreateOIDCProvider(ctx context.Context, url string, clientIDs, thumbprints []string) (OIDCProvider, error) {
	var out OIDCProvider
	err := c.change(ctx, func(m *Model) error {
		host := strings.TrimPrefix(url, "https://")
		if host == url || host == "" {
			return apierror.New("ValidationError", "Invalid Open ID Connect Provider URL: %s must begin with https://", url)
		}
		if m.OIDCProviders[m.providerARN(url)] != nil {
			return alreadyExists("Provider with url %s already exists.", url)
		}
		out = *m.addOIDCProvider(url, clientIDs, thumbprints, c.cfg.Now())
		return nil
	})
	return out, err
}

func (m *Model) providerARN(url string) string {
	return fmt.Sprintf("arn:aws:iam::%s:oidc-provider/%s", m.Account, strings.TrimPrefix(url, "https://"))
}

func (m *Model) addOIDCProvider(url string, clientIDs, thumbprints []string, now time.Time) *OIDCProvider {
	p := &OIDCProvider{ARN: m.providerARN(url), URL: strings.TrimPrefix(url, "https://"), ClientIDs: slices.Clone(clientIDs), Thumbprints: slices.Clone(thumbprints), Created: now}
	m.OIDCProviders[p.ARN] = p
	return p
}

// RoleByARN finds a role.
func (m *Model) RoleByARN(arn string) *Role {
	for _, r := range m.Roles {
		if r.ARN == arn {
			return r
		}
	}
	return nil
}

// documents are the policies that a principal has, inline and attached.
func (m *Model) documents(inline map[string]string, attached []string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(inline)) {
		out = append(out, inline[k])
	}
	for _, arn := range attached {
		if p := m.Policies[arn]; p != nil {
			out = append(out, p.Document)
		}
	}
	return out
}

// CreateUser makes a user with policies and an access key: the lab's administrator, or a person of a test.
func (c *Cloud) CreateUser(ctx context.Context, name string, attached ...string) (Credentials, error) {
	var out Credentials
	err := c.change(ctx, func(m *Model) error {
		if m.Users[name] != nil {
			return alreadyExists("User with name %s already exists.", name)
		}
		u := &User{Name: name, ID: "AIDA" + randomText(c.rng, upper, 17), ARN: fmt.Sprintf("arn:aws:iam::%s:user/%s", m.Account, name),
			Inline: map[string]string{}, Attached: slices.Clone(attached), Created: c.cfg.Now()}
		m.Users[name] = u
		k := &AccessKey{ID: "AKIA" + randomText(c.rng, upper, 16), Secret: randomText(c.rng, secret, 40), User: name}
		m.AccessKeys[k.ID] = k
		out = Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}
		return nil
	})
	return out, err
}

// AdministratorAccess is the policy that allows everything.
const AdministratorAccess = "arn:aws:iam::aws:policy/AdministratorAccess"
