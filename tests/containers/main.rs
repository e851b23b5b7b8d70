//! podman, ctr, Kubernetes' interface and docker, as their users call them, with `matchstick oci` as the runtime; and
//! runc's bundles without any of them. A program of its own: it takes root and looks for what is left behind.

#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod containerd;
mod docker;
mod place;
mod podman;
