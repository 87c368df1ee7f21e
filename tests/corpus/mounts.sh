mkdir -p at other
mount -t tmpfs -o size=1m,mode=700 none at
mount --bind tree other
mount -o remount,ro,bind other
mount --make-rprivate at
mount --move at moved
touch other/x
umount -l at
umount other
mount -t nosuchfs none at
unshare -n ip link
hostname
