# coreutils: files with everything that they have, and pipes of some megabytes.
export LC_ALL=C
mkdir -p d/e
seq 200000 >n
sha256sum n
split -l 50000 n part.
cat part.* | cmp - n && echo same
rm part.*
sort -R n | sort -n | cmp - n && echo sorted
shuf -n 5 n | wc -l
sort --parallel=2 -S 1M -r n | head -n 2
cp --preserve=all -r d d2
cp --reflink=auto --sparse=always n n2
cmp n n2
rm n2
install -m 750 n d/installed
stat -c '%a %s %n' d/installed
touch -r n -h d/e
ln -sfn e d/link
ls -l d | awk '{ print $1, $NF }'
truncate -s 1G sparse
stat -c '%s %b' sparse
fallocate -l 1M filled 2>/dev/null
stat -c %s filled
rm sparse filled
dd if=/dev/urandom bs=1M count=4 2>/dev/null | tee copy | sha1sum >sum
sha1sum <copy | cmp - sum && echo tee
rm copy sum
mv -n n moved
ls moved
mv -f moved n
rm -rf d2
mkfifo p
stat -c %F p
rm p
chmod u=rwx,go= d
stat -c %a d
chmod a-w n
stat -c %A n
chmod u+w n
mkdir -m 1777 t
stat -c %a t
rmdir t
df -P . | wc -l
du -sb d/installed
stat -f -c %s . >/dev/null
echo $?
sync n
echo $?
pathchk -p a
numfmt --to=iec 1048576
head -c 3M /dev/zero | wc -c
tail -n +199999 n
tac n | head -n 1
od -An -tx1 -N4 n
printf x | basenc --base16
join n n | wc -l
tsort /dev/null
ptx /dev/null
expand -t 4 /dev/null
pr -t -l 5 /dev/null
csplit -s n 100 200
ls xx*
rm xx*
timeout -s KILL 0.2 sleep 5
echo $?
timeout --preserve-status 0.2 sleep 5
echo $?
nohup true 2>/dev/null
echo $?
stdbuf -oL echo buffered
nice -n 3 nice
env -u HOME printenv HOME
echo $?
id -u
groups | wc -l
logname 2>/dev/null | wc -l
tty
test -t 0
echo $?
kill -l 9
uname -m
nproc --ignore=100
date -u -d @0 +%F
readlink -e /proc/self/exe
stat -c %N /proc/self/cwd >/dev/null
ls -la /proc/self/fd | wc -l >/dev/null
link n hard
unlink hard
shred -u -n 1 d/installed
ls d
mktemp -u x.XXX | wc -c
cat /nonexistent
echo $?
echo x >/etc/nothing/x
echo $?
yes | head -c 1000000 | md5sum
comm -3 n n
seq 1 3 | factor
rm -r d n
rmdir /proc 2>/dev/null
echo $?
