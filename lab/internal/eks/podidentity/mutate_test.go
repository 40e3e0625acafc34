package podidentity

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const role = "arn:aws:iam::111122223333:role/op"

func account(annotations ...string) *corev1.ServiceAccount {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", Annotations: map[string]string{}}}
	for i := 0; i+1 < len(annotations); i += 2 {
		sa.Annotations[annotations[i]] = annotations[i+1]
	}
	return sa
}

func pod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	if change != nil {
		change(p)
	}
	return p
}

// patched applies operations as the API server does.
func patched(t *testing.T, in *corev1.Pod, operations []Operation) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(operations) > 0 {
		encoded, err := json.Marshal(operations)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = patch.Apply(raw); err != nil {
			t.Fatalf("patch %s: %v", encoded, err)
		}
	}
	var out corev1.Pod
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func env(pairs ...string) (out []corev1.EnvVar) {
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, corev1.EnvVar{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func tokenVolume(audience string, seconds int64) corev1.Volume {
	return corev1.Volume{Name: "aws-iam-token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: audience, ExpirationSeconds: &seconds, Path: "token",
		}}},
	}}}
}

func TestMutate(t *testing.T) {
	mount := corev1.VolumeMount{Name: "aws-iam-token", MountPath: "/var/run/secrets/eks.amazonaws.com/serviceaccount", ReadOnly: true}
	const file = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"
	all := env("AWS_STS_REGIONAL_ENDPOINTS", "regional", "AWS_DEFAULT_REGION", "us-west-2", "AWS_REGION", "us-west-2",
		"AWS_ROLE_ARN", role, "AWS_WEB_IDENTITY_TOKEN_FILE", file)
	usual := func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, tokenVolume("sts.amazonaws.com", 86400))
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].Env = append(p.Spec.Containers[i].Env, all...)
			p.Spec.Containers[i].VolumeMounts = append(p.Spec.Containers[i].VolumeMounts, mount)
		}
	}
	token := func(audience string, seconds int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { usual(p); p.Spec.Volumes[len(p.Spec.Volumes)-1] = tokenVolume(audience, seconds) }
	}
	for name, tt := range map[string]struct {
		account *corev1.ServiceAccount
		in      func(*corev1.Pod)
		want    func(*corev1.Pod) // what differs from in
	}{
		"no role":    {account: account()},
		"empty role": {account: account(RoleARN, "")},
		"role":       {account: account(RoleARN, role), want: usual},
		"everything has something already": {
			account: account(RoleARN, role),
			in: func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{{Name: "v"}, {Name: "w"}}
				p.Spec.Containers[0].Env = env("A", "1", "B", "2")
				p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d"})
			},
			want: usual,
		},
		"init containers": {
			account: account(RoleARN, role),
			in:      func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "i"}} },
			want: func(p *corev1.Pod) {
				usual(p)
				p.Spec.InitContainers[0].Env, p.Spec.InitContainers[0].VolumeMounts = all, []corev1.VolumeMount{mount}
			},
		},
		"skipped containers": {
			account: account(RoleARN, role),
			in: func(p *corev1.Pod) {
				p.Annotations = map[string]string{SkipContainers: " i , c,"}
				p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d"})
			},
			want: func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{tokenVolume("sts.amazonaws.com", 86400)}
				p.Spec.Containers[1].Env, p.Spec.Containers[1].VolumeMounts = all, []corev1.VolumeMount{mount}
			},
		},
		"its own role: the pair is left alone": {
			account: account(RoleARN, role),
			in:      func(p *corev1.Pod) { p.Spec.Containers[0].Env = env("AWS_ROLE_ARN", "mine") },
			want: func(p *corev1.Pod) {
				usual(p)
				p.Spec.Containers[0].Env = append(env("AWS_ROLE_ARN", "mine"), all[:3]...)
			},
		},
		"its own region and STS": {
			account: account(RoleARN, role),
			in: func(p *corev1.Pod) {
				p.Spec.Containers[0].Env = env("AWS_REGION", "eu-west-1", "AWS_STS_REGIONAL_ENDPOINTS", "legacy")
			},
			want: func(p *corev1.Pod) {
				usual(p)
				p.Spec.Containers[0].Env = append(env("AWS_REGION", "eu-west-1", "AWS_STS_REGIONAL_ENDPOINTS", "legacy"), all[3:]...)
			},
		},
		"its own mount at the place": {
			account: account(RoleARN, role),
			in: func(p *corev1.Pod) {
				p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: mount.MountPath + "/"}}
			},
			want: func(p *corev1.Pod) {
				usual(p)
				p.Spec.Containers[0].VolumeMounts = p.Spec.Containers[0].VolumeMounts[:1]
			},
		},
		"mutated before": {
			account: account(RoleARN, role),
			in:      usual,
		},
		"audience":     {account: account(RoleARN, role, Audience, "vault"), want: token("vault", 86400)},
		"global STS":   {account: account(RoleARN, role, RegionalSTS, "false"), want: func(p *corev1.Pod) { usual(p); p.Spec.Containers[0].Env = all[1:] }},
		"regional STS": {account: account(RoleARN, role, RegionalSTS, "true"), want: usual},
		"expiration":   {account: account(RoleARN, role, TokenExpiration, "7200"), want: token("sts.amazonaws.com", 7200)},
		"too short":    {account: account(RoleARN, role, TokenExpiration, "5"), want: token("sts.amazonaws.com", 3600)},
		"too long":     {account: account(RoleARN, role, TokenExpiration, "99999999"), want: token("sts.amazonaws.com", 86400)},
		"not a number": {account: account(RoleARN, role, TokenExpiration, "soon"), want: token("sts.amazonaws.com", 86400)},
		"the pod's own expiration": {
			account: account(RoleARN, role, TokenExpiration, "7200"),
			in:      func(p *corev1.Pod) { p.Annotations = map[string]string{TokenExpiration: "4000"} },
			want:    token("sts.amazonaws.com", 4000),
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, want := pod(tt.in), pod(tt.in)
			if tt.want != nil {
				tt.want(want)
			}
			before := in.DeepCopy()
			got := patched(t, in, Mutate(in, tt.account, "us-west-2"))
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("pod (-want +got):\n%s", d)
			}
			if d := cmp.Diff(before, in); d != "" {
				t.Errorf("the input was changed:\n%s", d)
			}
			if again := Mutate(got, tt.account, "us-west-2"); len(again) != 0 {
				t.Errorf("a second time adds %v, expected nothing", again)
			}
		})
	}
}
