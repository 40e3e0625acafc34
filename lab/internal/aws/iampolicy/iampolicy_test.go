package iampolicy

import "testing"

func parse(t *testing.T, text string, trust bool) Document {
	t.Helper()
	d, err := Parse(text, trust)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEvaluate(t *testing.T) {
	const eni = "arn:aws:ec2:us-west-2:111122223333:network-interface/eni-1"
	for name, tc := range map[string]struct {
		policies []string
		request  Request
		want     Decision
	}{
		"nothing": {nil, Request{Action: "ec2:CreateTags", Resource: "*"}, ImplicitDeny},
		"wildcard action, other case": {[]string{`{"Statement":{"Effect":"Allow","Action":"EC2:describe*","Resource":"*"}}`},
			Request{Action: "ec2:DescribeVpcs", Resource: "*"}, Allow},
		"other action": {[]string{`{"Statement":{"Effect":"Allow","Action":"ec2:Describe*","Resource":"*"}}`},
			Request{Action: "ec2:CreateTags", Resource: "*"}, ImplicitDeny},
		"resource matches": {[]string{`{"Statement":{"Effect":"Allow","Action":"ec2:CreateTags","Resource":"arn:aws:ec2:*:*:network-interface/*"}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, Allow},
		"resource is case-sensitive": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:Network-interface/*"}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, ImplicitDeny},
		"deny wins": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, `{"Statement":{"Effect":"Deny","Action":"ec2:*","Resource":"*"}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, ExplicitDeny},
		"not action": {[]string{`{"Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, Allow},
		"not resource": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","NotResource":"arn:aws:ec2:*:*:network-interface/*"}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, ImplicitDeny},
		"condition holds": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/weft":["a","b"]}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni, Context: map[string][]string{"aws:resourcetag/Weft": {"b"}}}, Allow},
		"condition key absent": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/weft":"a"}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, ImplicitDeny},
		"negated, key absent": {[]string{`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":"us-west-2"}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, ExplicitDeny},
		"if exists, key absent": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEqualsIfExists":{"ec2:Vpc":"x"}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, Allow},
		"null": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Null":{"aws:TokenIssueTime":true}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni}, Allow},
		"all values": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAllValues:StringLike":{"aws:TagKeys":"weft.dev/*"}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni, Context: map[string][]string{"aws:TagKeys": {"weft.dev/a", "b"}}}, ImplicitDeny},
		"any value": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringLike":{"aws:TagKeys":"weft.dev/*"}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni, Context: map[string][]string{"aws:TagKeys": {"weft.dev/a", "b"}}}, Allow},
		"number": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericLessThan":{"x:n":10}}}}`},
			Request{Action: "ec2:CreateTags", Resource: eni, Context: map[string][]string{"x:n": {"9"}}}, Allow},
		"variable": {[]string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::1:user/${aws:username}"}}`},
			Request{Action: "iam:GetUser", Resource: "arn:aws:iam::1:user/ann", Context: map[string][]string{"aws:username": {"ann"}}}, Allow},
	} {
		t.Run(name, func(t *testing.T) {
			var docs []Document
			for _, p := range tc.policies {
				docs = append(docs, parse(t, p, false))
			}
			if got := Evaluate(docs, tc.request); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	d := parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:p"},"Action":"sts:AssumeRoleWithWebIdentity",
		"Condition":{"StringLike":{"h/id/1:sub":"system:serviceaccount:kube-system:*"},"StringEquals":{"h/id/1:aud":"sts.amazonaws.com"}}}]}`, true)
	for name, tc := range map[string]struct {
		who    Caller
		action string
		sub    string
		want   Decision
	}{
		"named":         {Caller{"Federated", []string{"arn:p"}}, "sts:AssumeRoleWithWebIdentity", "system:serviceaccount:kube-system:x", Allow},
		"other subject": {Caller{"Federated", []string{"arn:p"}}, "sts:AssumeRoleWithWebIdentity", "system:serviceaccount:default:x", ImplicitDeny},
		"other kind":    {Caller{"AWS", []string{"arn:p"}}, "sts:AssumeRoleWithWebIdentity", "system:serviceaccount:kube-system:x", ImplicitDeny},
		"other action":  {Caller{"Federated", []string{"arn:p"}}, "sts:AssumeRole", "system:serviceaccount:kube-system:x", ImplicitDeny},
	} {
		t.Run(name, func(t *testing.T) {
			if got := EvaluateTrust(d, tc.who, tc.action, map[string][]string{"h/id/1:sub": {tc.sub}, "h/id/1:aud": {"sts.amazonaws.com"}}); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		trust bool
	}{
		"not JSON":             {"Version: 2012-10-17", false},
		"unknown element":      {`{"Statement":{"Effect":"Allow","Actions":"*","Resource":"*"}}`, false},
		"unknown effect":       {`{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`, false},
		"no statement":         {`{"Version":"2012-10-17","Statement":[]}`, false},
		"no action":            {`{"Statement":{"Effect":"Allow","Resource":"*"}}`, false},
		"action of no service": {`{"Statement":{"Effect":"Allow","Action":"CreateTags","Resource":"*"}}`, false},
		"no resource":          {`{"Statement":{"Effect":"Allow","Action":"*"}}`, false},
		"resource is no ARN":   {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"eni-1"}}`, false},
		"principal":            {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}`, false},
		"trusts nobody":        {`{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}`, true},
		"unknown operator":     {`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringMatches":{"a":"b"}}}}`, false},
		"unknown version":      {`{"Version":"2020-01-01","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(tc.text, tc.trust); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{{"*", "", true}, {"", "", true}, {"", "a", false}, {"a?c", "abc", true}, {"a*c", "abbbc", true}, {"a*c", "ab", false}, {"*b*b*", "abab", true}, {"??", "a", false}, {"a**", "a", true}} {
		if got := Match(tc.pattern, tc.text); got != tc.want {
			t.Errorf("Match(%q, %q) = %t", tc.pattern, tc.text, got)
		}
	}
}

// FuzzParse: whatever comes in, reading it ends, and what was accepted never allows what it does not mention.
func FuzzParse(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:*"],"Resource":"*","Condition":{"Bool":{"a":true}}}]}`, "ec2:X", "arn:aws:x")
	f.Add(`{"Statement":{"Effect":"Deny","NotAction":"*","NotResource":["*"]}}`, "a:b", "${")
	f.Fuzz(func(t *testing.T, text, action, resource string) {
		d, err := Parse(text, false)
		if err != nil {
			return
		}
		got := Evaluate([]Document{d}, Request{Action: action, Resource: resource})
		deny := Statement{Effect: "Deny", Action: List{"*"}, Resource: List{"*"}}
		d.Statements = append(d.Statements, deny)
		if after := Evaluate([]Document{d}, Request{Action: action, Resource: resource}); after == Allow {
			t.Fatalf("%s %s on %s: %d, then with a deny of everything %d", text, action, resource, got, after)
		}
	})
}
