package podidentity

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apply "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// configurationName is that of EKS's own object.
const configurationName = "pod-identity-webhook"

// register makes the API server call the webhook.
func register(ctx context.Context, client kubernetes.Interface, bundle []byte) error {
	_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Apply(ctx, configuration(bundle),
		metav1.ApplyOptions{FieldManager: "eks", Force: true})
	if err != nil {
		return fmt.Errorf("webhook configuration %s: %w", configurationName, err)
	}
	return nil
}

// configuration is as EKS's. By `url:`, not by Service: the call goes straight from the API server, past the
// egress proxy. Ignore: with Fail, nothing could be created while the webhook is away, not even what the
// cluster needs to come back.
func configuration(bundle []byte) *apply.MutatingWebhookConfigurationApplyConfiguration {
	return apply.MutatingWebhookConfiguration(configurationName).WithWebhooks(
		apply.MutatingWebhook().
			WithName("iam-for-pods.amazonaws.com").
			WithFailurePolicy(admissionregistrationv1.Ignore).
			WithReinvocationPolicy(admissionregistrationv1.IfNeededReinvocationPolicy).
			WithSideEffects(admissionregistrationv1.SideEffectClassNone).
			WithTimeoutSeconds(10).
			WithAdmissionReviewVersions("v1").
			WithClientConfig(apply.WebhookClientConfig().WithURL("https://" + Address + mutatePath).WithCABundle(bundle...)).
			WithObjectSelector(applymeta.LabelSelector().WithMatchExpressions(
				applymeta.LabelSelectorRequirement().WithKey(skipWebhookLabel).WithOperator(metav1.LabelSelectorOpDoesNotExist))).
			WithRules(apply.RuleWithOperations().
				WithAPIGroups("").WithAPIVersions("v1").WithResources("pods").
				WithOperations(admissionregistrationv1.Create).
				WithScope(admissionregistrationv1.AllScopes)),
	)
}
