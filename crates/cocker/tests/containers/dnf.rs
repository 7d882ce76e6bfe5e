//! The other kind of packages: a container whose programs come from rpm packages, by dnf.

use crate::host::{Host, with_image_test};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![packages_of_the_other_kind_are_installed_under_the_usual_isolation]
}

/// A package that adds a user, by a script of its own. No package provides `/bin/sh` here, so none may require it.
const SPEC: &str = r#"
Name: greeter
Version: 1
Release: 1
Summary: greets
License: none
BuildArch: noarch
AutoReqProv: no
%description
Greets.
%install
mkdir -p %{buildroot}/usr/bin
printf '#!/bin/sh\necho hello\n' > %{buildroot}/usr/bin/greet
chmod 755 %{buildroot}/usr/bin/greet
%post -p <lua>
os.execute("useradd --system greeter")
%postun -p <lua>
os.execute("userdel greeter")
%files
/usr/bin/greet
"#;

fn packages_of_the_other_kind_are_installed_under_the_usual_isolation(host: &Host) {
    host.add_image_debian_with_dnf();
    host.cocker("create -m debian -c vps --net CUSTOM -b").ok();
    // A source of packages in the container itself, with one package that is made there.
    host.start("run vps -- sh -c 'cat > /root/greeter.spec'")
        .feed(SPEC.as_bytes())
        .outcome()
        .succeeds();
    host.inside(
        "vps",
        "cd /root && rpmbuild -bb greeter.spec > build.log 2>&1 && mkdir -p /srv/repo \
         && cp rpmbuild/RPMS/noarch/greeter-1-1.noarch.rpm /srv/repo && createrepo_c -q /srv/repo \
         && mkdir -p /etc/yum.repos.d && printf '[own]\\nname=own\\nbaseurl=file:///srv/repo\\ngpgcheck=0\\n' \
         > /etc/yum.repos.d/own.repo",
    );
    let dnf = "dnf --quiet --assumeyes --releasever=1";
    host.inside("vps", &format!("{dnf} install greeter 2>&1"));
    assert_eq!(
        host.inside("vps", "greet; id -un greeter; rpm -q greeter"),
        "hello\ngreeter\ngreeter-1-1.noarch"
    );
    assert_eq!(host.inside("vps", "rpm --verify greeter"), "");
    host.inside("vps", &format!("{dnf} remove greeter 2>&1"));
    host.cocker("run vps -- greet").exits(127);
    host.cocker("run vps -- id greeter").exits(1);
}
